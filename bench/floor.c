/* floor: what this kernel charges anyone for an answer. One thread, one epoll, no parsing, no cache.
 *
 * Every read that ends with an empty line is answered with the next canned response of its connection.
 * usage: floor ADDRESS PORT writev|sendfile PACING SIZE[,SIZE...]
 *   PACING: SO_MAX_PACING_RATE in bytes a second, 0 = unpaced. SIZE: body bytes; a connection's answers go through the
 *   list in order and start over, so a client that asks for the same list gets the lengths it expects.
 * It does not know what was asked: it is a measure, never a server. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FD_MAX = 1 << 16, SIZES_MAX = 4096, HEAD_MAX = 160, REQUEST_MAX = 4096 };
struct answer { char head[HEAD_MAX]; size_t head_len, size; };
struct conn { size_t next, sent; int busy; };               /* sent: bytes of head + body that have left */

static struct answer answers[SIZES_MAX];
static struct conn conns[FD_MAX];
static size_t n_answers;
static char *body;
static int memfd, epfd, use_sendfile;

static void die(const char *what) { perror(what); exit(1); }

static void close_conn(int fd) { close(fd); conns[fd] = (struct conn){0}; }

static void want(int fd, unsigned events) {
    struct epoll_event ev = {.events = events, .data.fd = fd};
    if (epoll_ctl(epfd, EPOLL_CTL_MOD, fd, &ev)) die("epoll_ctl");
}

static ssize_t send_some(int fd, const struct answer *a, size_t sent) {
    if (!use_sendfile) {
        size_t h = sent < a->head_len ? a->head_len - sent : 0, b = sent > a->head_len ? sent - a->head_len : 0;
        struct iovec iov[2] = {{(char *)a->head + a->head_len - h, h}, {body + b, a->size - b}};
        return writev(fd, h ? iov : iov + 1, h ? 2 : 1);
    }
    if (sent < a->head_len) return send(fd, a->head + sent, a->head_len - sent, MSG_MORE | MSG_NOSIGNAL);
    off_t off = (off_t)(sent - a->head_len);
    return sendfile(fd, memfd, &off, a->size - (size_t)off);
}

static void answer_conn(int fd) {
    struct conn *c = &conns[fd];
    const struct answer *a = &answers[c->next];
    while (c->sent < a->head_len + a->size) {
        ssize_t n = send_some(fd, a, c->sent);
        if (n < 0 && errno == EAGAIN) { if (!c->busy) { c->busy = 1; want(fd, EPOLLOUT); } return; }
        if (n <= 0) { close_conn(fd); return; }
        c->sent += (size_t)n;
    }
    c->sent = 0;
    c->next = (c->next + 1) % n_answers;
    if (c->busy) { c->busy = 0; want(fd, EPOLLIN); }
}

static void read_conn(int fd) {
    char buf[REQUEST_MAX];
    ssize_t n = read(fd, buf, sizeof buf);
    if (n <= 0) { if (n == 0 || errno != EAGAIN) close_conn(fd); return; }
    if (n >= 4 && !memcmp(buf + n - 4, "\r\n\r\n", 4)) answer_conn(fd);
}

static void accept_all(int lfd, unsigned pacing) {
    for (int fd, one = 1; (fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        if (fd >= FD_MAX) { close(fd); continue; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (pacing && setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &pacing, sizeof pacing)) die("pacing");
        struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
        if (epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev)) die("epoll_ctl");
    }
}

static size_t parse_sizes(char *list) {
    size_t biggest = 0;
    for (char *s = strtok(list, ","); s && n_answers < SIZES_MAX; s = strtok(NULL, ",")) {
        struct answer *a = &answers[n_answers++];
        a->size = strtoull(s, NULL, 10);
        a->head_len = (size_t)snprintf(a->head, HEAD_MAX,
            "HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nCache-Control: max-age=60\r\nContent-Length: %zu\r\n\r\n", a->size);
        if (a->size > biggest) biggest = a->size;
    }
    return biggest;
}

int main(int argc, char **argv) {
    if (argc != 6) { fprintf(stderr, "usage: floor ADDRESS PORT writev|sendfile PACING SIZE[,SIZE...]\n"); return 2; }
    use_sendfile = !strcmp(argv[3], "sendfile");
    unsigned pacing = (unsigned)strtoul(argv[4], NULL, 10);
    size_t biggest = parse_sizes(argv[5]);
    memfd = memfd_create("floor", 0);
    if (memfd < 0 || ftruncate(memfd, (off_t)biggest)) die("memfd");
    body = mmap(NULL, biggest ? biggest : 1, PROT_READ | PROT_WRITE, use_sendfile ? MAP_SHARED : MAP_PRIVATE, memfd, 0);
    if (body == MAP_FAILED) die("mmap");
    memset(body, 'x', biggest);
    int one = 1, lfd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[2]))};
    if (inet_pton(AF_INET, argv[1], &sa.sin_addr) != 1) die("address");
    setsockopt(lfd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(lfd, (struct sockaddr *)&sa, sizeof sa) || listen(lfd, 4096)) die("listen");
    epfd = epoll_create1(0);
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = lfd}, got[256];
    if (epoll_ctl(epfd, EPOLL_CTL_ADD, lfd, &ev)) die("epoll_ctl");
    for (;;) {
        int n = epoll_wait(epfd, got, 256, -1);
        for (int i = 0; i < n; i++) {
            if (got[i].data.fd == lfd) accept_all(lfd, pacing);
            else if (got[i].events & EPOLLOUT) answer_conn(got[i].data.fd);
            else read_conn(got[i].data.fd);
        }
    }
}
