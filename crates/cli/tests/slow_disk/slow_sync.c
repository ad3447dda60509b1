/* A disk whose syncs take long: preloaded into a hub, it makes each sync of a file last so many
 * milliseconds longer as the file says that SLOW_SYNC_FILE names, read anew each time. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void wait_first(void)
{
    const char *name = getenv("SLOW_SYNC_FILE");
    FILE *file = name ? fopen(name, "re") : NULL;
    long ms = 0;
    if (!file)
        return;
    if (fscanf(file, "%ld", &ms) != 1)
        ms = 0;
    fclose(file);
    struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
    while (nanosleep(&time, &time) != 0)
        ;
}

static int after_a_while(const char *name, int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    wait_first();
    return real(fd);
}

int fdatasync(int fd) { return after_a_while("fdatasync", fd); }
int fsync(int fd) { return after_a_while("fsync", fd); }
