"""Guest: a connection on its way from one plane to the other, with the bytes read from it.
One without a head is on its way to the process that succeeds this one.

Requests for routes of kind `http` are answered by the control plane: the worker gives the whole
connection away, and gets it back once the request is answered. Each box is a short list under a
mutex; this is not the hot path.

Law: whoever holds a guest owns its descriptor. Bounds: GUESTS_MAX in a box (the connection is
closed), GUEST_BYTES behind a head.
"""
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy
from edgecache.native.address cimport Address
from edgecache.native.base cimport load_relaxed_u32, store_relaxed_u32
from edgecache.native.sys cimport (
    close, pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_t,
    pthread_mutex_unlock,
)
from edgecache.native.types cimport Slice


cdef enum:
    GUESTS_MAX = 4096
    GUEST_BYTES = 32 << 10


cdef struct Guest:
    Guest *next
    int fd
    uint32_t head_len                    # of the request's head; 0 on the way back
    uint32_t len                         # of all bytes
    Address address                      # the viewer's
    unsigned char bytes[1]


cdef struct GuestBox:
    pthread_mutex_t lock
    Guest *first
    Guest *last
    uint32_t count


cdef inline Guest *guest_new(int fd, Address address, Slice before, Slice data,
                             uint32_t head_len) noexcept nogil:
    """With the bytes of both. NULL: no memory; the descriptor stays the caller's."""
    cdef Guest *guest = <Guest *>malloc(sizeof(Guest) + before.len + data.len)
    if guest == NULL:
        return NULL
    guest.next = NULL
    guest.fd = fd
    guest.address = address
    guest.head_len = head_len
    guest.len = <uint32_t>(before.len + data.len)
    if before.len:
        memcpy(guest.bytes, before.data, before.len)
    if data.len:
        memcpy(guest.bytes + before.len, data.data, data.len)
    return guest


cdef inline void guest_box_init(GuestBox *box) noexcept nogil:
    pthread_mutex_init(&box.lock, NULL)
    box.first = NULL
    box.last = NULL
    box.count = 0


cdef inline bint guest_put(GuestBox *box, Guest *guest) noexcept nogil:
    """False: full; the guest stays the caller's."""
    cdef bint room
    pthread_mutex_lock(&box.lock)
    room = box.count < GUESTS_MAX
    if room:
        if box.last != NULL:
            box.last.next = guest
        else:
            box.first = guest
        box.last = guest
        store_relaxed_u32(&box.count, box.count + 1)
    pthread_mutex_unlock(&box.lock)
    return room


cdef inline bint guest_room(GuestBox *box) noexcept nogil:
    """For its one producer: will the next one fit?"""
    return load_relaxed_u32(&box.count) < GUESTS_MAX


cdef inline Guest *guest_take(GuestBox *box) noexcept nogil:
    """The longest there, the caller's from now on. NULL: nobody."""
    cdef Guest *guest
    if load_relaxed_u32(&box.count) == 0:
        return NULL
    pthread_mutex_lock(&box.lock)
    guest = box.first
    if guest != NULL:
        box.first = guest.next
        if box.first == NULL:
            box.last = NULL
        store_relaxed_u32(&box.count, box.count - 1)
    pthread_mutex_unlock(&box.lock)
    return guest


cdef inline void guest_box_destroy(GuestBox *box) noexcept nogil:
    cdef Guest *guest = guest_take(box)
    while guest != NULL:
        close(guest.fd)
        free(guest)
        guest = guest_take(box)
    pthread_mutex_destroy(&box.lock)
