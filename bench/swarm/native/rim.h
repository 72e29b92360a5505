/* What the swarm asks of the kernel and Cython cannot say: dialling, stamped reads, thread time.
 *
 * Arrivals are stamped by the kernel (SO_TIMESTAMPNS): the moment the segment reached this host's
 * TCP, whatever the swarm was doing then, so that its own reading time is not taken for the
 * server's lag. When segments were merged before they were read, the stamp is the later one. */
#ifndef BENCH_SWARM_RIM_H
#define BENCH_SWARM_RIM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

static inline uint64_t rim_clock_ns(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
static inline uint64_t rim_mono_us(void) { return rim_clock_ns(CLOCK_MONOTONIC) / 1000u; }
static inline uint64_t rim_wall_us(void) { return rim_clock_ns(CLOCK_REALTIME) / 1000u; }
static inline uint64_t rim_cpu_us(void) { return rim_clock_ns(CLOCK_THREAD_CPUTIME_ID) / 1000u; }

/* A connecting socket, or -errno. Addresses and port in network order; source 0: the kernel's
 * choice. With a source the port is chosen at connect, so one source has 28,000 of them for each
 * destination and not for all. */
static inline int rim_dial(uint32_t ip, uint16_t port, uint32_t source) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = port, .sin_addr = {ip}};
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_port = 0, .sin_addr = {source}};
    int one = 1, failed;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    failed = setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) ||
             setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof(one));
    if (!failed && source)
        failed = setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one)) ||
                 bind(fd, (struct sockaddr *)&from, sizeof(from));
    if (!failed)
        failed = connect(fd, (struct sockaddr *)&to, sizeof(to)) && errno != EINPROGRESS;
    if (failed) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

/* 0 when a connecting socket is connected, else its errno. */
static inline int rim_error(int fd) {
    int error = 0;
    socklen_t size = sizeof(error);
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) ? errno : error;
}

/* recv(), and the wall clock µs at which the bytes arrived (0: the kernel did not say). */
static inline ssize_t rim_recv(int fd, void *data, size_t size, uint64_t *stamp_us) {
    struct iovec io = {data, size};
    char control[CMSG_SPACE(sizeof(struct timespec))];
    struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control,
                             .msg_controllen = sizeof(control)};
    ssize_t got = recvmsg(fd, &message, 0);
    struct cmsghdr *c = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    *stamp_us = 0;
    for (; c != NULL; c = CMSG_NXTHDR(&message, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) {
            struct timespec t;
            memcpy(&t, CMSG_DATA(c), sizeof(t));
            *stamp_us = (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
        }
    return got;
}

static inline int rim_watch(int epoll, int op, int fd, uint32_t events, uint64_t tag) {
    struct epoll_event event = {.events = events, .data = {.u64 = tag}};
    return epoll_ctl(epoll, op, fd, &event);
}
static inline uint64_t rim_tag(const struct epoll_event *event) { return event->data.u64; }

#endif
