/* Failpoints: system calls (and malloc) that fail as a test wants. Only in builds with
 * -DEC_FAILPOINTS; without it this file is nothing at all, and tests/sanitize proves that no trace
 * of it is in a release core.
 *
 * A site is a call by its name. Armed, its calls `from` … `from + times - 1`, counted from the
 * arming, fail with `error`; EC_SHORT lets them through for one byte. Tests arm it through the
 * exported functions below (ctypes): the face has no such thing. Included behind all system
 * headers, because it redefines their names. */
#if defined(EC_FAILPOINTS) && !defined(EDGECACHE_FAILPOINTS_H)
#define EDGECACHE_FAILPOINTS_H

#define EC_SHORT (-1)
#define EC_SITES(X) \
    X(accept4) X(recv) X(send) X(sendmsg) X(sendfile) X(pwrite) X(memfd_create) X(epoll_create1) \
    X(epoll_ctl) X(epoll_wait) X(eventfd) X(read) X(getrandom) X(malloc) X(calloc)

enum {
#define EC_X(name) EC_SITE_##name,
    EC_SITES(EC_X)
#undef EC_X
    EC_SITE_COUNT
};

typedef struct {
    uint32_t from, times, calls, struck;
    int error;
} ec_failpoint;

static ec_failpoint ec_failpoints[EC_SITE_COUNT];
#define EC_X(name) #name,
static const char *const ec_site_names[] = {EC_SITES(EC_X)};
#undef EC_X

static inline ec_failpoint *ec_failpoint_of(const char *site) {
    for (int i = 0; i < EC_SITE_COUNT; i++)
        if (strcmp(site, ec_site_names[i]) == 0) return &ec_failpoints[i];
    return NULL;
}

#define EC_EXPORTED __attribute__((visibility("default"), used))
/* 0; -1: no such site. `times` 0 disarms. */
EC_EXPORTED int ec_failpoint_arm(const char *site, uint32_t from, uint32_t times, int error) {
    ec_failpoint *point = ec_failpoint_of(site);
    if (point == NULL) return -1;
    store_relaxed_u32(&point->times, 0);
    store_relaxed_u32(&point->calls, 0);
    store_relaxed_u32(&point->struck, 0);
    __atomic_store_n(&point->error, error, __ATOMIC_RELAXED);
    store_relaxed_u32(&point->from, from);
    store_release_u32(&point->times, times);
    return 0;
}
/* Calls that failed since the arming. */
EC_EXPORTED uint32_t ec_failpoint_struck(const char *site) {
    ec_failpoint *point = ec_failpoint_of(site);
    return point ? load_relaxed_u32(&point->struck) : 0;
}

/* The error of this call; 0: it goes through. */
static inline int ec_strikes(int site) {
    ec_failpoint *point = &ec_failpoints[site];
    uint32_t times = load_acquire_u32(&point->times), from = load_relaxed_u32(&point->from);
    uint32_t call;
    if (times == 0) return 0;
    call = __atomic_add_fetch(&point->calls, 1, __ATOMIC_RELAXED);
    if (call < from || call - from >= times) return 0;
    __atomic_fetch_add(&point->struck, 1, __ATOMIC_RELAXED);
    return __atomic_load_n(&point->error, __ATOMIC_RELAXED);
}

/* For calls that fail with -1; `whole` and `brief` are the call and its one-byte form. */
#define EC_FAILS(name, whole, brief) ({ \
    int ec_error = ec_strikes(EC_SITE_##name); \
    if (ec_error > 0) errno = ec_error; \
    ec_error > 0 ? -1 : ec_error == EC_SHORT ? (brief) : (whole); })
#define EC_FAILS_NULL(name, whole) \
    (ec_strikes(EC_SITE_##name) ? (errno = ENOMEM, (void *)NULL) : (whole))

static inline ssize_t ec_sendmsg_brief(int fd, const struct msghdr *message, int flags) {
    struct iovec first = message->msg_iov[0];
    struct msghdr one = *message;
    first.iov_len = first.iov_len ? 1 : 0;
    one.msg_iov = &first;
    one.msg_iovlen = 1;
    return sendmsg(fd, &one, flags);
}

#define EC_WHOLE(name, ...) EC_FAILS(name, (name)(__VA_ARGS__), (name)(__VA_ARGS__))
#define accept4(fd, a, n, flags) EC_WHOLE(accept4, fd, a, n, flags)
#define recv(fd, p, n, flags) EC_FAILS(recv, (recv)(fd, p, n, flags), (recv)(fd, p, 1, flags))
#define send(fd, p, n, flags) EC_FAILS(send, (send)(fd, p, n, flags), (send)(fd, p, 1, flags))
#define sendmsg(fd, m, flags) \
    EC_FAILS(sendmsg, (sendmsg)(fd, m, flags), ec_sendmsg_brief(fd, m, flags))
#define sendfile(fd, in, at, n) \
    EC_FAILS(sendfile, (sendfile)(fd, in, at, n), (sendfile)(fd, in, at, 1))
#define pwrite(fd, p, n, at) EC_FAILS(pwrite, (pwrite)(fd, p, n, at), (pwrite)(fd, p, 1, at))
#define memfd_create(name, flags) EC_WHOLE(memfd_create, name, flags)
#define epoll_create1(flags) EC_WHOLE(epoll_create1, flags)
#define epoll_ctl(ep, op, fd, event) EC_WHOLE(epoll_ctl, ep, op, fd, event)
#define epoll_wait(ep, events, n, ms) EC_WHOLE(epoll_wait, ep, events, n, ms)
#define eventfd(n, flags) EC_WHOLE(eventfd, n, flags)
#define read(fd, p, n) EC_WHOLE(read, fd, p, n)
#define getrandom(p, n, flags) EC_WHOLE(getrandom, p, n, flags)
#define malloc(n) EC_FAILS_NULL(malloc, (malloc)(n))
#define calloc(n, size) EC_FAILS_NULL(calloc, (calloc)(n, size))

#endif
