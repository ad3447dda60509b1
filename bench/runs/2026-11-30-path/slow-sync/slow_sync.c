#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int fdatasync(int fd) {
  static int (*real)(int); static long us = -1;
  if (!real) { real = dlsym(RTLD_NEXT, "fdatasync"); us = atol(getenv("SLOW_SYNC_US")); }
  struct timespec t = {us / 1000000, us % 1000000 * 1000}; nanosleep(&t, 0); return real(fd);
}
