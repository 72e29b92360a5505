/* sockopt: one TCP option on every socket of an unchanged server, to measure it alone.
 *
 * cc -shared -fPIC -O2 -o sockopt.so sockopt.c; LD_PRELOAD=…/sockopt.so SOCKOPT=LEVEL:NAME:VALUE server…
 * Set on listeners, from which accepted sockets inherit; a server's own setting of the same option is overruled.
 * TCP_QUICKACK (6:12:1), which the kernel takes back by itself, is set again after every recv. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

static int level, name, value, on;

__attribute__((constructor)) static void begin(void) {
    const char *text = getenv("SOCKOPT");
    on = text && sscanf(text, "%d:%d:%d", &level, &name, &value) == 3;
}

int setsockopt(int fd, int lv, int nm, const void *val, socklen_t len) {
    static int (*real)(int, int, int, const void *, socklen_t);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "setsockopt");
    return on && lv == level && nm == name ? real(fd, lv, nm, &value, sizeof value) : real(fd, lv, nm, val, len);
}

int listen(int fd, int backlog) {
    static int (*real)(int, int);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "listen");
    if (on && setsockopt(fd, level, name, &value, sizeof value)) perror("SOCKOPT");
    return real(fd, backlog);
}

ssize_t recv(int fd, void *buf, size_t len, int flags) {
    static ssize_t (*real)(int, void *, size_t, int);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "recv");
    ssize_t n = real(fd, buf, len, flags);
    if (on && level == IPPROTO_TCP && name == TCP_QUICKACK) setsockopt(fd, level, name, &value, sizeof value);
    return n;
}
