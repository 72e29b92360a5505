"""A native client: thousands of requests without the GIL, each answer read whole and judged."""
from edgecache.native.base cimport clock_us as pulse_clock_us
from libc.stdlib cimport strtoull
from libc.string cimport memchr, strstr


cdef extern from *:
    """
    #include <arpa/inet.h>
    #include <netinet/in.h>
    #include <sys/socket.h>
    #include <sys/time.h>
    #include <unistd.h>
    static int hammer_connect(int port) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
        struct timeval patience = {30, 0};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) { close(fd); return -1; }
        return fd;
    }
    """
    int hammer_connect(int port) nogil
    int MSG_NOSIGNAL
    long recv(int fd, void *buf, size_t length, int flags) nogil
    long send(int fd, const void *buf, size_t length, int flags) nogil
    int close_fd "close"(int fd) nogil
    int usleep(unsigned int us) nogil


cdef enum:
    HAMMER_BYTES = 1 << 16


cdef int hammer_once(int fd, Slice request, char *buffer, uint8_t fill) noexcept nogil:
    """Status, negative if the body is not all `fill` (0: anything), 0 if the connection broke."""
    cdef size_t have = 0
    cdef uint64_t left
    cdef char *end = NULL
    cdef char *mark
    cdef long n
    cdef int status
    cdef size_t at
    if send(fd, request.data, request.len, MSG_NOSIGNAL) != <long>request.len:
        return 0
    while end == NULL:
        n = recv(fd, buffer + have, HAMMER_BYTES - 1 - have, 0)
        if n <= 0:
            return 0
        have += <size_t>n
        buffer[have] = 0
        end = strstr(buffer, b"\r\n\r\n")
    status = (buffer[9] - 48) * 100 + (buffer[10] - 48) * 10 + buffer[11] - 48
    end[0] = 0
    mark = strstr(buffer, b"Content-Length: ")
    if mark == NULL:
        return 0 if status != 304 else status
    left = strtoull(mark + 16, NULL, 10)
    at = end + 4 - buffer
    while True:
        while at < have:
            if fill and status == 200 and <uint8_t>buffer[at] != fill:
                return -status
            at += 1
            left -= 1
        if left == 0:
            return status
        n = recv(fd, buffer, HAMMER_BYTES - 1 if left > HAMMER_BYTES - 1 else left, 0)
        if n <= 0:
            return 0
        have = <size_t>n
        at = 0


def hammer(int port, bytes request, int times, uint8_t fill=0):
    """Ask `times` over, anew after a broken connection. {status: count}; 0: broken, −s: wrong."""
    cdef int fd = -1
    cdef int i
    cdef int status
    cdef int counts[1200]
    cdef Slice data = as_slice(request)
    cdef char *buffer = <char *>malloc(HAMMER_BYTES)
    memset(counts, 0, sizeof(counts))
    with nogil:
        for i in range(times):
            if fd < 0:
                fd = hammer_connect(port)
            status = hammer_once(fd, data, buffer, fill) if fd >= 0 else 0
            counts[600 + status] += 1
            if status <= 0 and fd >= 0:
                close_fd(fd)
                fd = -1
        if fd >= 0:
            close_fd(fd)
    free(buffer)
    return {i - 600: counts[i] for i in range(1200) if counts[i]}


cdef uint64_t pulse_once(int fd, Slice request, uint64_t due_us, char *buffer) noexcept nogil:
    """Microseconds from when it was due, or from when we woke up for it; UINT64_MAX: no 200."""
    cdef uint64_t now_us = pulse_clock_us()
    cdef uint64_t from_us = due_us
    if now_us < due_us:
        usleep(<unsigned int>(due_us - now_us))
        from_us = pulse_clock_us()
    if fd < 0 or hammer_once(fd, request, buffer, 0) != 200:
        return UINT64_MAX
    return pulse_clock_us() - from_us


def pulse(int port, bytes request, int connections, int count, uint64_t period_us):
    """An even pace without the GIL: a request each period, in turn over so many connections. How
    long each took, in microseconds; None: it was not answered 200."""
    cdef int i
    cdef Slice data = as_slice(request)
    cdef uint64_t began_us
    cdef char *buffer = <char *>malloc(HAMMER_BYTES)
    cdef int *fds = <int *>malloc(connections * sizeof(int))
    cdef uint64_t *took = <uint64_t *>malloc(count * sizeof(uint64_t))
    with nogil:
        for i in range(connections):
            fds[i] = hammer_connect(port)
        began_us = pulse_clock_us()
        for i in range(count):
            took[i] = pulse_once(fds[i % connections], data, began_us + i * period_us, buffer)
        for i in range(connections):
            close_fd(fds[i])
    found = [took[i] if took[i] != UINT64_MAX else None for i in range(count)]
    free(buffer)
    free(fds)
    free(took)
    return found
