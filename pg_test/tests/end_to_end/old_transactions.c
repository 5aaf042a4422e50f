/*
 * Has the server's counter of transactions jump ahead, as if all in between had been and gone. (PostgreSQL's own
 * test module xid_wraparound makes the pages of pg_xact and pg_subtrans in between, too, which takes minutes;
 * nobody asks for those of transactions that never were.)
 */
#include "postgres.h"

#include "access/transam.h"
#include "fmgr.h"
#include "storage/lwlock.h"

#if PG_VERSION_NUM >= 170000
#define COUNTER TransamVariables
#else
#define COUNTER ShmemVariableCache
#endif

/* Transactions on a page of pg_xact (clog.c), which is so many whole ones of pg_subtrans, too. */
#define XACTS_PER_PAGE (BLCKSZ * 4)

PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(jump_to);

/* The next transaction's xid, with its epoch, is to be this one: the first of a page, which is made for it then. */
Datum
jump_to(PG_FUNCTION_ARGS)
{
	uint64		next = (uint64) PG_GETARG_INT64(0);

	if (next % XACTS_PER_PAGE != 0)
		elog(ERROR, "%lu is not the first xid of a page", (unsigned long) next);
	LWLockAcquire(XidGenLock, LW_EXCLUSIVE);
	if (next < COUNTER->nextXid.value ||
		!TransactionIdPrecedes((TransactionId) next, COUNTER->xidVacLimit))
	{
		LWLockRelease(XidGenLock);
		elog(ERROR, "the counter cannot jump to %lu", (unsigned long) next);
	}
	COUNTER->nextXid = FullTransactionIdFromU64(next);
	LWLockRelease(XidGenLock);
	PG_RETURN_VOID();
}
