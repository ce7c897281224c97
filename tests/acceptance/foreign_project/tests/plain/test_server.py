def test_the_server_answers():
    from helpdesk.server import Server

    with Server() as server:
        assert server.answer("password") == ["Password forgotten"]
