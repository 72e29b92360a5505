/* lastmile: what lies between viewers and a cache. A TCP relay that holds every byte for half a round trip each way.
 *
 * A byte leaves DELAY_US after the kernel's stamp on its arrival, however late this process was told of it; how late it is
 * itself is recorded. It runs before all others of its core (SCHED_FIFO) where that is allowed. One request at a time on a
 * connection, and an answer that fits a socket's buffer: a write that does not go at once ends the program.
 * usage: lastmile DELAY_US ADDRESS PORT < LISTENING SOCKET > RECORDS
 * A struct hit is written for each answer when that connection's next request passes: native byte order, wall clock ns.
 * It is a relay, so the cache's own TCP has its far end on this host: no loss, no slow start. Knows nothing of HTTP. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FD_MAX = 4096, EVENTS = 64, PIECE_MAX = 256 << 10, SECOND = 1000000000 };
struct hit { int64_t asked, answered, late; };              /* request to the cache; last byte from it; ours, both ways */
struct end { int other, viewer; struct hit hit; };          /* of a connection, by descriptor; the hit is the viewer's */
struct piece { struct piece *next; int64_t due; int from, fd; size_t size; char data[]; };

static struct end ends[FD_MAX];
static struct piece *first;                                 /* by due time */
static char bytes[PIECE_MAX];
static int epfd;

static void die(const char *what) { perror(what); exit(1); }

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * SECOND + t.tv_nsec;
}

static void watch(int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    int one = 1;
    if (fd >= FD_MAX || epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one);
}

static void welcome(int listener, const struct sockaddr_in *cache) {
    int viewer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    int behind = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (viewer < 0 || connect(behind, (const void *)cache, sizeof *cache)) die("connect");
    watch(viewer);
    watch(behind);
    ends[viewer] = (struct end){.other = behind, .viewer = 1};
    ends[behind] = (struct end){.other = viewer};
}

static int64_t stamp_of(struct msghdr *message) {
    struct timespec t;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) {
            memcpy(&t, CMSG_DATA(c), sizeof t);
            return (int64_t)t.tv_sec * SECOND + t.tv_nsec;
        }
    return now_ns();                                        /* an end has none */
}

/* A piece of no size is an end. Sockets are read in any order, so a piece finds its place by its stamp. */
static void take(int fd, int64_t delay) {
    char control[128];
    struct iovec iov = {bytes, sizeof bytes};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT);
    int64_t at = n > 0 ? stamp_of(&message) : now_ns();
    size_t size = n > 0 ? (size_t)n : 0;
    struct piece *piece = malloc(sizeof *piece + size), **place = &first;
    if (!piece) die("malloc");
    *piece = (struct piece){.due = at + delay, .from = fd, .fd = ends[fd].other, .size = size};
    memcpy(piece->data, bytes, size);
    if (!ends[fd].viewer) ends[piece->fd].hit.answered = at;
    if (!size) epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL);
    while (*place && (*place)->due <= piece->due) place = &(*place)->next;
    piece->next = *place;
    *place = piece;
}

static void pass(const struct piece *piece) {
    int asks = ends[piece->from].viewer;
    struct hit *hit = &ends[asks ? piece->from : piece->fd].hit;
    int64_t at = now_ns();
    if (!piece->size) { shutdown(piece->fd, SHUT_WR); return; }         /* descriptors stay as long as the program */
    if (asks) {
        if (hit->answered && write(STDOUT_FILENO, hit, sizeof *hit) != sizeof *hit) die("write");
        *hit = (struct hit){.asked = at};
    }
    hit->late += at - piece->due;
    ssize_t n = send(piece->fd, piece->data, piece->size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 ? errno == EAGAIN : (size_t)n < piece->size) die("send");  /* whoever is gone is gone */
}

static void turn(const struct sockaddr_in *cache, int64_t delay) {
    struct epoll_event events[EVENTS];
    int64_t left = first ? first->due - now_ns() : SECOND;
    if (left < 0) left = 0;
    struct timespec wait = {left / SECOND, left % SECOND};
    int n = epoll_pwait2(epfd, events, EVENTS, &wait, NULL);
    for (int i = 0; i < n; i++)
        if (events[i].data.fd == STDIN_FILENO) welcome(STDIN_FILENO, cache);
        else take(events[i].data.fd, delay);
    while (first && first->due <= now_ns()) {
        struct piece *piece = first;
        first = piece->next;
        pass(piece);
        free(piece);
    }
}

int main(int argc, char **argv) {
    if (argc != 4) { fprintf(stderr, "usage: lastmile DELAY_US ADDRESS PORT < LISTENING SOCKET > RECORDS\n"); return 2; }
    struct sockaddr_in cache = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[3]))};
    struct epoll_event event = {.events = EPOLLIN, .data.fd = STDIN_FILENO};
    struct sched_param soon = {.sched_priority = 1};
    if (inet_pton(AF_INET, argv[2], &cache.sin_addr) != 1) die(argv[2]);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_TIMERSLACK, 1);
    sched_setscheduler(0, SCHED_FIFO, &soon);                           /* not allowed? `late` says what that costs */
    if ((epfd = epoll_create1(EPOLL_CLOEXEC)) < 0 || epoll_ctl(epfd, EPOLL_CTL_ADD, STDIN_FILENO, &event)) die("epoll");
    for (;;) turn(&cache, atoll(argv[1]) * 1000);
}
