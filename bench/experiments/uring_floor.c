/* uring_floor: floor.c's writev answers over io_uring instead of epoll, to see what the interface is worth.
 *
 * Multishot accept, multishot recv from a ring of provided buffers, one send an answer, DEFER_TASKRUN and SINGLE_ISSUER:
 * one io_uring_enter a turn submits all answers of the turn and waits for the next requests.
 * usage: uring_floor ADDRESS PORT copy|fixed SIZE
 *   fixed: the answer lies in a registered buffer and leaves by SEND_ZC.
 * Like the floor it recognises nothing: a read that ends with an empty line is answered. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/io_uring.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ENTRIES = 4096, BUFFERS = 4096, BUFFER_BYTES = 1024, GROUP = 1 };
enum { ACCEPT = 1, RECV, SEND };                            /* in the low byte of user_data, the descriptor above it */

static int ring;
static unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask, to_submit;
static struct io_uring_sqe *sqes;
static struct io_uring_cqe *cqes;
static struct io_uring_buf_ring *buf_ring;
static char *buffers, *answer;
static size_t answer_len;
static int fixed;

static void die(const char *what) { perror(what); exit(1); }

static void enter(unsigned wait) {
    if (syscall(__NR_io_uring_enter, ring, to_submit, wait, IORING_ENTER_GETEVENTS, NULL, 0) < 0) die("io_uring_enter");
    to_submit = 0;
}

static struct io_uring_sqe *sqe_for(int op, int fd, int what) {
    if (to_submit == ENTRIES) enter(0);
    unsigned tail = *sq_tail, at = tail & *sq_mask;
    struct io_uring_sqe *sqe = &sqes[at];
    memset(sqe, 0, sizeof *sqe);
    sqe->opcode = (uint8_t)op;
    sqe->fd = fd;
    sqe->user_data = (uint64_t)fd << 8 | (uint64_t)what;
    sq_array[at] = at;
    __atomic_store_n(sq_tail, tail + 1, __ATOMIC_RELEASE);
    to_submit++;
    return sqe;
}

static void *map(size_t size, off_t what) {
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, what);
    if (at == MAP_FAILED) die("mmap");
    return at;
}

static void give_buffer(unsigned short id) {
    unsigned short tail = buf_ring->tail;
    struct io_uring_buf *buf = &buf_ring->bufs[tail & (BUFFERS - 1)];
    buf->addr = (uint64_t)(uintptr_t)(buffers + (size_t)id * BUFFER_BYTES);
    buf->len = BUFFER_BYTES;
    buf->bid = id;
    __atomic_store_n(&buf_ring->tail, tail + 1, __ATOMIC_RELEASE);
}

static void set_up(void) {
    struct io_uring_params p = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
                                .cq_entries = 4 * ENTRIES};
    if ((ring = (int)syscall(__NR_io_uring_setup, ENTRIES, &p)) < 0) die("io_uring_setup");
    char *sq = map(p.sq_off.array + p.sq_entries * sizeof(unsigned), IORING_OFF_SQ_RING);
    char *cq = map(p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
    sqes = map(p.sq_entries * sizeof *sqes, IORING_OFF_SQES);
    sq_tail = (unsigned *)(sq + p.sq_off.tail);
    sq_mask = (unsigned *)(sq + p.sq_off.ring_mask);
    sq_array = (unsigned *)(sq + p.sq_off.array);
    cq_head = (unsigned *)(cq + p.cq_off.head);
    cq_tail = (unsigned *)(cq + p.cq_off.tail);
    cq_mask = (unsigned *)(cq + p.cq_off.ring_mask);
    cqes = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
    buffers = mmap(NULL, (size_t)BUFFERS * BUFFER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    buf_ring = mmap(NULL, BUFFERS * sizeof(struct io_uring_buf), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct io_uring_buf_reg reg = {.ring_addr = (uint64_t)(uintptr_t)buf_ring, .ring_entries = BUFFERS, .bgid = GROUP};
    if (syscall(__NR_io_uring_register, ring, IORING_REGISTER_PBUF_RING, &reg, 1)) die("pbuf_ring");
    for (unsigned i = 0; i < BUFFERS; i++) give_buffer((unsigned short)i);
}

static void ask_recv(int fd) {
    struct io_uring_sqe *sqe = sqe_for(IORING_OP_RECV, fd, RECV);
    sqe->ioprio = IORING_RECV_MULTISHOT;
    sqe->flags = IOSQE_BUFFER_SELECT;
    sqe->buf_group = GROUP;
}

static void send_from(int fd, size_t sent) {
    struct io_uring_sqe *sqe = sqe_for(fixed ? IORING_OP_SEND_ZC : IORING_OP_SEND, fd, SEND);
    sqe->addr = (uint64_t)(uintptr_t)(answer + sent);
    sqe->len = (unsigned)(answer_len - sent);
    sqe->msg_flags = MSG_NOSIGNAL | MSG_WAITALL;            /* the kernel goes on until all is out */
    if (fixed) sqe->ioprio = IORING_RECVSEND_FIXED_BUF;
}

static void on_recv(int fd, const struct io_uring_cqe *cqe) {
    if (cqe->res > 0) {
        unsigned short id = (unsigned short)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
        const char *end = buffers + (size_t)id * BUFFER_BYTES + cqe->res;
        if (cqe->res >= 4 && !memcmp(end - 4, "\r\n\r\n", 4)) send_from(fd, 0);
        give_buffer(id);
    }
    if (cqe->flags & IORING_CQE_F_MORE) return;
    if (cqe->res > 0 || cqe->res == -105) ask_recv(fd);     /* ENOBUFS: all buffers were out */
    else close(fd);
}

static void on(const struct io_uring_cqe *cqe, int lfd) {
    int fd = (int)(cqe->user_data >> 8), what = (int)(cqe->user_data & 255);
    if (what == RECV) on_recv(fd, cqe);
    else if (what == ACCEPT) {
        int one = 1;
        if (cqe->res >= 0) {
            setsockopt(cqe->res, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            ask_recv(cqe->res);
        }
        if (!(cqe->flags & IORING_CQE_F_MORE)) sqe_for(IORING_OP_ACCEPT, lfd, ACCEPT)->ioprio = IORING_ACCEPT_MULTISHOT;
    } else if (cqe->res < 0 && !(cqe->flags & IORING_CQE_F_NOTIF)) fprintf(stderr, "send: %s\n", strerror(-cqe->res));
}

static void make_answer(size_t size) {
    char head[160];
    int n = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nCache-Control: max-age=60\r\n"
                     "Content-Length: %zu\r\n\r\n", size);
    answer_len = (size_t)n + size;
    answer = mmap(NULL, answer_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    memset(answer, 'x', answer_len);
    memcpy(answer, head, (size_t)n);
    struct iovec iov = {answer, answer_len};
    if (fixed && syscall(__NR_io_uring_register, ring, IORING_REGISTER_BUFFERS, &iov, 1)) die("register buffers");
}

int main(int argc, char **argv) {
    if (argc != 5) { fprintf(stderr, "usage: uring_floor ADDRESS PORT copy|fixed SIZE\n"); return 2; }
    fixed = !strcmp(argv[3], "fixed");
    set_up();
    make_answer(strtoull(argv[4], NULL, 10));
    int one = 1, lfd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[2]))};
    if (inet_pton(AF_INET, argv[1], &sa.sin_addr) != 1) die("address");
    setsockopt(lfd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(lfd, (struct sockaddr *)&sa, sizeof sa) || listen(lfd, 4096)) die("listen");
    sqe_for(IORING_OP_ACCEPT, lfd, ACCEPT)->ioprio = IORING_ACCEPT_MULTISHOT;
    for (;;) {
        enter(1);
        unsigned head = *cq_head, tail = __atomic_load_n(cq_tail, __ATOMIC_ACQUIRE);
        for (; head != tail; head++) {
            struct io_uring_cqe cqe = cqes[head & *cq_mask];
            on(&cqe, lfd);
        }
        __atomic_store_n(cq_head, head, __ATOMIC_RELEASE);
    }
}
