"""The system calls of the data plane that Cython does not ship: extern declarations only."""
from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <fcntl.h>
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #include <pthread.h>
    #include <linux/sockios.h>
    #include <signal.h>
    #include <sys/epoll.h>
    #include <sys/eventfd.h>
    #include <sys/ioctl.h>
    #include <sys/mman.h>
    #include <sys/random.h>
    #include <sys/sendfile.h>
    #include <sys/socket.h>
    #include <sys/uio.h>
    #include <unistd.h>
    #include "base.h"
    #include "failpoints.h"
    #ifndef SO_MAX_PACING_RATE
    #define SO_MAX_PACING_RATE 47
    #endif
    static inline void epoll_set_ptr(struct epoll_event *e, uint32_t events,
                                     void *p) { e->events = events; e->data.ptr = p; }
    static inline void *epoll_get_ptr(const struct epoll_event *e) { return e->data.ptr; }
    static inline void block_all_signals(void) {
        sigset_t s;
        sigfillset(&s);
        const int own_faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}; /* are reported */
        for (size_t i = 0; i < sizeof own_faults / sizeof *own_faults; i++)
            sigdelset(&s, own_faults[i]);
        pthread_sigmask(SIG_BLOCK, &s, NULL);
    }
    static inline int errno_get(void) { return errno; }
    static inline uint64_t socket_unacked(int fd) { /* written, not acknowledged by the peer */
        int queued = 0;
        return ioctl(fd, SIOCOUTQ, &queued) == 0 && queued > 0 ? (uint64_t)queued : 0;
    }
    """


cdef extern from "sys/types.h" nogil:
    ctypedef long ssize_t
    ctypedef long off_t


cdef extern from "sys/uio.h" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len


cdef extern from "sys/socket.h" nogil:
    struct msghdr:
        void *msg_name
        unsigned int msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    enum:
        MSG_NOSIGNAL
        MSG_MORE
        MSG_DONTWAIT
        SOL_SOCKET
        SO_MAX_PACING_RATE
        SHUT_WR
        AF_INET
        AF_INET6
        SOCK_STREAM
        SOCK_NONBLOCK
        SOCK_CLOEXEC
    int socket(int family, int kind, int protocol)
    int accept4(int fd, void *addr, void *addrlen, int flags)
    ssize_t recv(int fd, void *buf, size_t len, int flags)
    ssize_t sendmsg(int fd, const msghdr *msg, int flags)
    ssize_t send(int fd, const void *buf, size_t len, int flags)
    int setsockopt(int fd, int level, int name, const void *value, unsigned int len)
    int getsockopt(int fd, int level, int name, void *value, unsigned int *len)
    int shutdown(int fd, int how)


cdef extern from "netinet/tcp.h" nogil:
    enum:
        IPPROTO_TCP
        TCP_CONGESTION
        TCP_NODELAY
        TCP_NOTSENT_LOWAT


cdef extern from "sys/epoll.h" nogil:
    struct epoll_event:
        uint32_t events
    enum:
        EPOLLIN
        EPOLLOUT
        EPOLLERR
        EPOLLHUP
        EPOLLRDHUP
        EPOLLET
        EPOLL_CTL_ADD
        EPOLL_CTL_MOD
        EPOLL_CTL_DEL
        EPOLL_CLOEXEC
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout)


cdef extern from "sys/eventfd.h" nogil:
    enum:
        EFD_NONBLOCK
        EFD_CLOEXEC
    int eventfd(unsigned int initval, int flags)


cdef extern from "sys/mman.h" nogil:
    enum:
        MFD_CLOEXEC
        MFD_ALLOW_SEALING
        PROT_READ
        PROT_WRITE
        MAP_SHARED
    void *MAP_FAILED
    void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset)
    int munmap(void *at, size_t length)
    int memfd_create(const char *name, unsigned int flags)


cdef extern from "fcntl.h" nogil:
    enum:
        F_ADD_SEALS
        F_GET_SEALS
        F_SEAL_SEAL
        F_SEAL_SHRINK
        F_SEAL_GROW
        F_SEAL_WRITE
    int fcntl(int fd, int cmd, ...)


cdef extern from "sys/sendfile.h" nogil:
    ssize_t sendfile(int out_fd, int in_fd, off_t *offset, size_t count)


cdef extern from "sys/random.h" nogil:
    ssize_t getrandom(void *buf, size_t buflen, unsigned int flags)


cdef extern from "unistd.h" nogil:
    ssize_t read(int fd, void *buf, size_t count)
    ssize_t write(int fd, const void *buf, size_t count)
    ssize_t pwrite(int fd, const void *buf, size_t count, off_t offset)
    ssize_t pread(int fd, void *buf, size_t count, off_t offset)
    enum:
        SEEK_END
    off_t lseek(int fd, off_t offset, int whence)
    int close(int fd)


cdef extern from "pthread.h" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, const void *attr)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)


cdef extern from "errno.h" nogil:
    enum:
        EAGAIN
        EINTR
        EMFILE
        ENFILE
        ENOBUFS
        ENOMEM
        ECONNABORTED


cdef extern from * nogil:
    void epoll_set_ptr(epoll_event *e, uint32_t events, void *p)
    void *epoll_get_ptr(const epoll_event *e)
    void block_all_signals()
    int errno_get()
    uint64_t socket_unacked(int fd)
