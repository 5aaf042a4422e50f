/*
 * The floor of every trigger that writes to the WAL: one transactional message of 700 fixed
 * bytes for each row, and nothing else.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "fmgr.h"
#include "replication/message.h"

PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(write_fixed_bytes);

Datum
write_fixed_bytes(PG_FUNCTION_ARGS)
{
	static const char bytes[700] = {0};

#if PG_VERSION_NUM >= 170000
	LogLogicalMessage("bench", bytes, sizeof(bytes), true, false);
#else
	LogLogicalMessage("bench", bytes, sizeof(bytes), true);
#endif
	return PointerGetDatum(NULL);
}
