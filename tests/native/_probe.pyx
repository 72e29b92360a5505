"""Private native code as tests see it: thin `def` shims, one file a concept under probe/.

Never part of the package; built by scripts/build probe. Input bytes are placed at the end of a page
that is followed by one nobody may touch, so reading one byte too far ends the process.
"""
from libc.stdint cimport UINT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from edgecache.native.types cimport Limits, Slice, cbyte, slice_equal, slice_of


cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <sys/mman.h>
    #include <string.h>
    static unsigned char *guard_page;
    enum { GUARDED_BYTES = 1 << 18 };
    static const unsigned char *guarded(const char *data, size_t length) {
        if (guard_page == NULL) {
            guard_page = mmap(NULL, GUARDED_BYTES + 4096, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            mprotect(guard_page + GUARDED_BYTES, 4096, PROT_NONE);
        }
        if (length > GUARDED_BYTES) abort();
        return memcpy(guard_page + GUARDED_BYTES - length, data, length);
    }
    """
    cbyte *guarded(const char *data, size_t length)


cdef Slice at_the_edge(bytes value):
    """A copy that ends where memory ends; valid until the next call."""
    return slice_of(guarded(PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)),
                    PyBytes_GET_SIZE(value))


cdef Slice as_slice(bytes value):
    return slice_of(<cbyte *>PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))


cdef bytes as_bytes(Slice value):
    return PyBytes_FromStringAndSize(<const char *>value.data, value.len) if value.data else b""


include "probe/parse.pxi"
include "probe/answer.pxi"
include "probe/memory.pxi"
include "probe/store.pxi"
include "probe/cross.pxi"
include "probe/hammer.pxi"
include "probe/front.pxi"
