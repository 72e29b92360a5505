"""What unit tests stand on: the catalogue's real server."""

from tests.nats_server import nats as nats  # a fixture: what conftest names, its tests are given
