/* storm: what this kernel charges anyone for a miss storm. One thread, one epoll, no parsing, no cache.
 *
 * Parks every request it reads, sends the first one on to the origin, and when the origin's answer is whole gives it to
 * all who wait in the order they came, one write each. The floor of `miss_storm`: N fresh connections, cold caches.
 * usage: storm ADDRESS PORT ORIGIN ORIGIN_PORT [CONGESTION]
 *   CONGESTION: TCP_CONGESTION of the viewers' sockets; the host's without it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { FD_MAX = 1 << 16, ANSWER_MAX = 1 << 20 };
static int parked[FD_MAX], n_parked, origin = -1;
static char answer[ANSWER_MAX];
static size_t answer_len, answer_whole;

static void die(const char *what) { perror(what); exit(1); }

static int tcp(const char *ip, const char *port, struct sockaddr_in *sa) {
    *sa = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port))};
    if (inet_pton(AF_INET, ip, &sa->sin_addr) != 1) die("address");
    return socket(AF_INET, SOCK_STREAM, 0);
}

/* Blocks, short of memory or window, like the floor does not: an answer here fits a fresh socket's buffer. */
static void give(int fd) {
    if (write(fd, answer, answer_whole) != (ssize_t)answer_whole) { perror("short write"); close(fd); }
}

static void origin_bytes(int epfd) {
    ssize_t n = read(origin, answer + answer_len, sizeof answer - answer_len - 1);
    if (n <= 0) die("origin");
    answer_len += (size_t)n;
    char *end = strstr(answer, "\r\n\r\n"), *length = strcasestr(answer, "content-length:");
    if (!end || !length) return;
    size_t whole = (size_t)(end + 4 - answer) + strtoul(length + 15, NULL, 10);
    if (answer_len < whole) return;
    answer_whole = whole;
    for (int i = 0; i < n_parked; i++) give(parked[i]);
    n_parked = 0;
    epoll_ctl(epfd, EPOLL_CTL_DEL, origin, NULL);
}

static void viewer_bytes(int epfd, int fd, const struct sockaddr_in *sa) {
    char buf[4096];
    ssize_t n = read(fd, buf, sizeof buf);
    if (n <= 0) { close(fd); return; }
    if (answer_whole) { give(fd); return; }
    parked[n_parked++] = fd;
    if (origin >= 0) return;
    origin = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(origin, (const struct sockaddr *)sa, sizeof *sa) || write(origin, buf, (size_t)n) != n) die("origin");
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = origin};
    if (epoll_ctl(epfd, EPOLL_CTL_ADD, origin, &ev)) die("epoll_ctl");
}

int main(int argc, char **argv) {
    if (argc < 5) { fprintf(stderr, "usage: storm ADDRESS PORT ORIGIN ORIGIN_PORT [CONGESTION]\n"); return 2; }
    struct sockaddr_in here, there;
    int one = 1, lfd = tcp(argv[1], argv[2], &here), epfd = epoll_create1(0);
    close(tcp(argv[3], argv[4], &there));
    setsockopt(lfd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(lfd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (argc > 5 && setsockopt(lfd, IPPROTO_TCP, TCP_CONGESTION, argv[5], strlen(argv[5]))) die(argv[5]);
    if (bind(lfd, (struct sockaddr *)&here, sizeof here) || listen(lfd, 16384)) die("listen");
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = lfd}, got[256];
    if (epoll_ctl(epfd, EPOLL_CTL_ADD, lfd, &ev)) die("epoll_ctl");
    for (;;) {
        int n = epoll_wait(epfd, got, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = got[i].data.fd;
            if (fd == origin) origin_bytes(epfd);
            else if (fd != lfd) viewer_bytes(epfd, fd, &there);
            else if ((fd = accept4(lfd, NULL, NULL, SOCK_CLOEXEC)) >= 0 && fd < FD_MAX) {
                ev = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
                if (epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev)) die("epoll_ctl");
            }
        }
    }
}
