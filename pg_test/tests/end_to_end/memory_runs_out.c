/*
 * Loaded ahead of the C library into every process of a server: memory that there is not. Which requests are
 * refused,
 *   a statement says:  "scarce LEAST FIRST" somewhere in it, for as long as it takes;
 *   or a file in the data directory, "scarce.PID": "LEAST FIRST", for as long as it is there.
 * Of the requests of at least LEAST bytes, the FIRST one and all behind it. A statement may also say "room BYTES":
 * the address space that its process has left (ulimit -v). The first time that a process is refused something
 * adds a byte to the file "scarce.refused".
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);

/* A file is looked for at requests of this size only. */
#define LARGE 65536

static enum { PLENTY, BY_STATEMENT, BY_FILE } scarcity;
static size_t least;
static long first;
static long seen;
static int was_refused;

static void begin(int by, size_t from_bytes, long from_request)
{
	if (scarcity == by)
		return;
	scarcity = by;
	least = from_bytes;
	first = from_request;
	seen = 0;
	was_refused = 0;
}

static void look_for_file(void)
{
	char name[64];
	char text[64];
	ssize_t length;
	int file;
	char *rest;

	if (scarcity == BY_STATEMENT)
		return;
	snprintf(name, sizeof name, "scarce.%ld", (long) getpid());
	file = open(name, O_RDONLY);
	if (file < 0)
	{
		scarcity = PLENTY;
		return;
	}
	length = read(file, text, sizeof text - 1);
	close(file);
	if (length > 0)
	{
		text[length] = 0;
		size_t bytes = strtoul(text, &rest, 10);
		begin(BY_FILE, bytes, strtol(rest, NULL, 10));
	}
}

static int refuses(size_t size)
{
	int count;

	if (size >= LARGE)
		look_for_file();
	if (scarcity == PLENTY || size < least || ++seen < first)
		return 0;
	if (!was_refused)
	{
		was_refused = 1;
		count = open("scarce.refused", O_WRONLY | O_CREAT | O_APPEND, 0600);
		if (count >= 0)
		{
			if (write(count, ".", 1) != 1)
				_exit(1);
			close(count);
		}
	}
	errno = ENOMEM;
	return 1;
}

void *malloc(size_t size)
{
	return refuses(size) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	return refuses(count * size) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
	return refuses(size) ? NULL : __libc_realloc(memory, size);
}

/* So much more address space, or as much as there is. */
static void leave_room(long bytes)
{
	struct rlimit limit;
	long pages = 0;
	FILE *file = fopen("/proc/self/statm", "r");

	if (file != NULL)
	{
		if (fscanf(file, "%ld", &pages) != 1)
			pages = 0;
		fclose(file);
	}
	getrlimit(RLIMIT_AS, &limit);
	limit.rlim_cur = bytes < 0 ? limit.rlim_max : pages * sysconf(_SC_PAGESIZE) + bytes;
	setrlimit(RLIMIT_AS, &limit);
}

/* A backend receives a statement: what the one before said is over. */
ssize_t recv(int socket, void *buffer, size_t size, int flags)
{
	static ssize_t (*real)(int, void *, size_t, int);
	ssize_t received;
	char *word;
	char *rest;

	if (real == NULL)
		real = (ssize_t (*)(int, void *, size_t, int)) dlsym(RTLD_NEXT, "recv");
	received = real(socket, buffer, size, flags);
	if (received <= 0)
		return received;
	if (scarcity == BY_STATEMENT)
		scarcity = PLENTY;
	leave_room(-1);
	word = memmem(buffer, received, "scarce ", 7);
	if (word != NULL)
	{
		size_t bytes = strtoul(word + 7, &rest, 10);
		begin(BY_STATEMENT, bytes, strtol(rest, NULL, 10));
	}
	word = memmem(buffer, received, "room ", 5);
	if (word != NULL)
		leave_room(strtol(word + 5, NULL, 10));
	return received;
}
