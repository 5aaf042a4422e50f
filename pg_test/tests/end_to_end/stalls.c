/*
 * Loaded ahead of the C library into every process of a server: a disk and a name server that take their
 * time. A file in the data directory says how long, in milliseconds; each stall adds a byte to another one.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void stall(const char *what)
{
	char name[64];
	struct timespec left;
	long milliseconds = 0;
	FILE *file;
	int count;

	snprintf(name, sizeof name, "stall.%s", what);
	file = fopen(name, "r");
	if (file == NULL)
		return;
	if (fscanf(file, "%ld", &milliseconds) != 1)
		milliseconds = 0;
	fclose(file);
	snprintf(name, sizeof name, "stalled.%s", what);
	count = open(name, O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (count >= 0)
	{
		if (write(count, ".", 1) != 1)
			_exit(1);
		close(count);
	}
	left.tv_sec = milliseconds / 1000;
	left.tv_nsec = milliseconds % 1000 * 1000000;
	/* A disk does not hear signals. */
	while (nanosleep(&left, &left) != 0)
		;
}

static int is_in(int descriptor, const char *part)
{
	char link[64];
	char path[4096];
	ssize_t length;

	snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
	length = readlink(link, path, sizeof path - 1);
	if (length < 0)
		return 0;
	path[length] = 0;
	return strstr(path, part) != NULL;
}

int fsync(int descriptor)
{
	static int (*real)(int);

	if (real == NULL)
		real = (int (*)(int)) dlsym(RTLD_NEXT, "fsync");
	if (is_in(descriptor, "/pg_replslot/amqp_cdc/state"))
		stall("slot");
	return real(descriptor);
}

ssize_t pread(int descriptor, void *buffer, size_t size, off_t offset)
{
	static ssize_t (*real)(int, void *, size_t, off_t);

	if (real == NULL)
		real = (ssize_t (*)(int, void *, size_t, off_t)) dlsym(RTLD_NEXT, "pread");
	if (is_in(descriptor, "/pg_wal/"))
		stall("wal");
	return real(descriptor, buffer, size, offset);
}

ssize_t pread64(int descriptor, void *buffer, size_t size, off64_t offset)
{
	return pread(descriptor, buffer, size, offset);
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
				struct addrinfo **found)
{
	static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

	if (real == NULL)
		real = (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))
			dlsym(RTLD_NEXT, "getaddrinfo");
	/* The postmaster looks up the addresses in pg_hba.conf. */
	if (node != NULL && strstr(node, ".invalid") != NULL)
		stall("names");
	return real(node, service, hints, found);
}
