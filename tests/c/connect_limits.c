/*
 * A connection that is being opened is one of `connections_max`: one more is refused with AHOY_ERR_AGAIN, and each
 * that is over makes room. What ahoy_connect cannot take is told apart, at once.
 */
#include "remote.h"

#include <errno.h>
#include <unistd.h>

enum { MAX = 5 };

static tally seen = TALLY_INIT;

static void over_the_limit(void) {
    remote hole = remote_black_hole();
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen, .connections_max = MAX,
                                       .on_open = tally_open, .on_message = tally_echo,
                                       .on_close = tally_close));
    ahoy_conn conns[MAX], refused = { 77 };
    char byte;
    for (int i = 0; i < MAX; i++) conns[i] = outgoing(server, hole.url, CONNECT_OPTIONS(0));
    WAIT_UNTIL(stats_of(server).connecting == MAX);
    for (int i = 0; i < 100; i++) CHECK_STATUS(ahoy_connect(server, hole.url, NULL, &refused), AHOY_ERR_AGAIN);
    CHECK_EQ(refused.id, 77);

    /* Nor is there room for one that is accepted. */
    int fd = dial(server);
    ssize_t got = recv_until_eof(fd, &byte, 1);
    CHECK(got == 0 || got == -ECONNRESET);
    close(fd);
    CHECK_EQ(stats_of(server).refused, 1);

    CHECK_OK(ahoy_conn_close(conns[0]));
    latch_wait(&seen.closed, 1);
    WAIT_UNTIL(ahoy_conn_server(conns[0]).id == 0);
    conns[0] = outgoing(server, hole.url, CONNECT_OPTIONS(0));
    CHECK_STATUS(ahoy_connect(server, hole.url, NULL, NULL), AHOY_ERR_AGAIN);
    CHECK_OK(ahoy_conn_close(conns[0]));
    latch_wait(&seen.closed, 2);
    WAIT_UNTIL(ahoy_conn_server(conns[0]).id == 0);
    fd = dial(server);
    send_all(fd, "x", 1);
    recv_exact(fd, &byte, 1);
    close(fd);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.closed), MAX + 2);
    remote_end(&hole);
}

static void bad(ahoy_server server, const char *urls, ahoy_connect_options options, ahoy_status status) {
    ahoy_conn conn = { 77 };
    ahoy_status actual = ahoy_connect(server, urls, &options, &conn);
    if (actual != status) fprintf(stderr, "%s\n", urls ? urls : "NULL");
    CHECK_STATUS(actual, status);
    CHECK_EQ(conn.id, 77);
    CHECK(strlen(ahoy_last_error()) > 0);
}

static void what_it_cannot_take(void) {
    char long_path[300] = "unix:/";
    memset(long_path + 6, 'a', sizeof long_path - 7);
    long_path[sizeof long_path - 1] = '\0';
    ahoy_server server = start(OPTIONS(.workers = 1, .on_message = tally_message));
    const struct { const char *urls; ahoy_status status; } cases[] = {
        { NULL, AHOY_ERR_NULL },
        { "", AHOY_ERR_URL },
        { ",", AHOY_ERR_URL },
        { "tcp://127.0.0.1:1,", AHOY_ERR_URL },
        { ",tcp://127.0.0.1:1", AHOY_ERR_URL },
        { "127.0.0.1:80", AHOY_ERR_URL },
        { "http://127.0.0.1:80", AHOY_ERR_URL },
        { "fd:3", AHOY_ERR_URL }, /* to listen on, not to connect to */
        { "systemd:", AHOY_ERR_URL },
        { "tcp://:80", AHOY_ERR_URL },
        { "tcp://127.0.0.1:80,nonsense", AHOY_ERR_URL },
        { "tcp://127.0.0.1:65536", AHOY_ERR_PORT },
        { "tcp://127.0.0.1:x", AHOY_ERR_PORT },
        { long_path, AHOY_ERR_PATH_TOO_LONG },
        { "tcp://127.0.0.1:80?framing=nonsense", AHOY_ERR_URL },
        { "tcp://127.0.0.1:80?nonsense=1", AHOY_ERR_URL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bad(server, cases[i].urls, CONNECT_OPTIONS(0), cases[i].status);
    }

    const char *url = "tcp://127.0.0.1:1";
    ahoy_framing_options small = { .size = 1 }, wide = { .size = sizeof wide, .length_bytes = 5 };
    bad(server, url, (ahoy_connect_options){ .size = 0 }, AHOY_ERR_SIZE);
    bad(server, url, (ahoy_connect_options){ .size = sizeof(ahoy_connect_options) + 4096 }, AHOY_ERR_SIZE);
    bad(server, url, CONNECT_OPTIONS(.framing = -1), AHOY_ERR_ENUM);
    bad(server, url, CONNECT_OPTIONS(.framing = AHOY_FRAMING_DELIMITER), AHOY_ERR_NULL);
    bad(server, url, CONNECT_OPTIONS(.framing = AHOY_FRAMING_LENGTH, .framing_options = &small), AHOY_ERR_SIZE);
    bad(server, url, CONNECT_OPTIONS(.framing = AHOY_FRAMING_LENGTH, .framing_options = &wide), AHOY_ERR_INVALID);
    CHECK_EQ(stats_of(server).connecting, 0);
    CHECK_EQ(stats_of(server).connections, 0);
    ahoy_server_free(server);
}

int main(void) {
    holdings before = holdings_now();
    over_the_limit();
    what_it_cannot_take();
    CHECK_HOLDINGS(before);
    return 0;
}
