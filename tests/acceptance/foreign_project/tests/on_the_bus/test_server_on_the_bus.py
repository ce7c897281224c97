from crossfade import shim


def test_the_server_uses_the_tests_bus(bus, stage):
    from helpdesk.server import Server

    stage("tickets.search", "bus")

    for _ in range(2):
        with Server() as server:
            assert server.answer("password") == ["Password forgotten"]

    assert len(bus.calls("tickets.search")) == 2


def test_connecting_as_one_likes(bus, stage):
    stage("tickets.search", "bus")

    with shim.connect(), shim.connect("nats://production:4222", required=True) as connection:
        assert connection.connected
        (call,) = [shim.outcome(call.callid) for call in bus.calls("tickets.search")] or [None]
        assert call is None
