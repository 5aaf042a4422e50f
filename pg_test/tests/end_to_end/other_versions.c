/*
 * Writes an event as the trigger of another version of the extension would: its bytes, under the prefix
 * that SQL cannot name.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "fmgr.h"
#include "replication/message.h"

PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(write_event);

Datum
write_event(PG_FUNCTION_ARGS)
{
	static const char prefix[] = "amqp_cdc\0event";
	bytea	   *event = PG_GETARG_BYTEA_PP(0);
	xl_logical_message record = {0};

	GetCurrentTransactionId();
	record.transactional = true;
	record.prefix_size = sizeof(prefix);
	record.message_size = VARSIZE_ANY_EXHDR(event);
	XLogBeginInsert();
	XLogRegisterData((char *) &record, SizeOfLogicalMessage);
	XLogRegisterData((char *) prefix, sizeof(prefix));
	XLogRegisterData(VARDATA_ANY(event), record.message_size);
	XLogInsert(RM_LOGICALMSG_ID, XLOG_LOGICAL_MESSAGE);
	PG_RETURN_VOID();
}
