"""Bytes that grow by one writer and are never rewritten (native/blob.pxd)."""

from __future__ import annotations

import os

import pytest

from tests.native._probe import BlobOf, alive


@pytest.mark.parametrize("capacity", [10, None], ids=["heap", "memfd"])
def test_appends(capacity: int | None) -> None:
    before = alive()
    blob = BlobOf(capacity)
    assert blob.append(b"01234")
    assert blob.append(b"")
    assert blob.append(b"56789")
    assert (blob.filled, blob.content()) == (10, b"0123456789")
    blob.share()
    assert blob.content() == b"0123456789"
    del blob
    assert alive() == before


def test_a_heap_blob_holds_what_it_was_made_for() -> None:
    blob = BlobOf(4)
    assert not blob.append(b"12345")
    assert blob.append(b"1234")
    assert not blob.append(b"5")
    assert (blob.filled, blob.content()) == (4, b"1234")
    assert BlobOf(0).append(b"")


def test_a_blob_is_charged_for_what_it_takes() -> None:
    heap, memfd = BlobOf(1000), BlobOf(None)
    base = memfd.charged
    assert heap.charged == 1000 + base
    memfd.append(b"x")
    assert memfd.charged == 4096 + base
    memfd.append(b"x" * 4095)
    assert memfd.charged == 4096 + base
    memfd.append(b"x")
    assert memfd.charged == 8192 + base


def test_a_sealed_memfd_takes_nothing_more() -> None:
    """By nobody: not even who gets hold of the descriptor."""
    blob = BlobOf(None)
    blob.append(b"12345")
    blob.seal()
    assert not blob.append(b"6")
    with pytest.raises(PermissionError):
        os.pwrite(blob.fd, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(blob.fd, 1)
    assert (blob.filled, blob.content()) == (5, b"12345")


def test_the_descriptor_goes_with_the_blob() -> None:
    blob = BlobOf(None)
    fd = blob.fd
    assert not os.get_inheritable(fd)
    del blob
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
