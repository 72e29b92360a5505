"""Cython's view of rim.h: extern declarations only."""
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from edgecache.native.sys cimport epoll_event, ssize_t


cdef extern from "rim.h" nogil:
    uint64_t rim_mono_us()
    uint64_t rim_wall_us()
    uint64_t rim_cpu_us()
    int rim_dial(uint32_t ip, uint16_t port, uint32_t source)
    int rim_error(int fd)
    ssize_t rim_recv(int fd, void *data, size_t size, uint64_t *stamp_us)
    int rim_watch(int epoll, int op, int fd, uint32_t events, uint64_t tag)
    uint64_t rim_tag(const epoll_event *event)
    void *memmem(const void *data, size_t size, const void *needle, size_t needle_size)
