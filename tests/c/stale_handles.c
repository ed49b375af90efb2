/*
 * A stale, forged or zero handle gives AHOY_ERR_STALE, and a free of one does nothing: on every function
 * that takes a handle, also while other servers and connections live.
 */
#include "support.h"

#include <unistd.h>

static void on_timer(ahoy_timer timer, ahoy_conn conn, void *user) {
    (void)timer, (void)conn, (void)user;
}

static void on_topic(ahoy_server server, const char *topic, const void *data, size_t len, void *user) {
    (void)server, (void)topic, (void)data, (void)len, (void)user;
}

static void refuses_server(uint64_t id) {
    ahoy_server server = { id };
    char text[128] = "untouched";
    ahoy_stats stats = { .size = sizeof stats, .opened = 77 };
    ahoy_conn conn = { 77 };
    int fd = 77;
    int pair[2];
    stream_pair(pair);

    CHECK_STATUS(ahoy_server_stop(server, 0), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_server_wait(server), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_server_address(server, 0, text, sizeof text), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_server_adopt(server, pair[0], &conn), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_server_stats(server, &stats), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_server_fd(server, &fd), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_server_turn(server, 0), AHOY_ERR_STALE);
    latch freed = LATCH_INIT;
    CHECK_STATUS(ahoy_timer_start(server, 0, 0, on_timer, &freed, count_free, NULL), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_publish(server, "topic", "x", 1), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_subscribe(server, "topic", on_topic, &freed, count_free, NULL), AHOY_ERR_STALE);
    CHECK_EQ(latch_count(&freed), 0);
    ahoy_server_free(server);

    /* Nothing was written, and the socket stayed ours. */
    CHECK_TEXT(text, "untouched");
    CHECK_EQ(stats.opened, 77);
    CHECK_EQ(conn.id, 77);
    CHECK_EQ(fd, 77);
    CHECK(close(pair[0]) == 0 && close(pair[1]) == 0);
}

static void refuses_conn(uint64_t id) {
    ahoy_conn conn = { id };
    char text[64] = "untouched";
    latch freed = LATCH_INIT;

    CHECK_STATUS(ahoy_send(conn, "x", 1), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_send_owned(conn, "x", 1, count_free, &freed), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_send_parts(conn, &(ahoy_part){ "x", 1 }, 1), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_conn_greet(conn), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_conn_abort(conn), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_conn_end(conn), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_conn_join(conn, "topic"), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_conn_leave(conn, "topic"), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_conn_timer_start(conn, 0, 0, on_timer, &freed, count_free, NULL), AHOY_ERR_STALE);
    CHECK_EQ(ahoy_conn_queued(conn), 0);
    CHECK_STATUS(ahoy_conn_close(conn), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_conn_pause(conn), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_conn_resume(conn), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_conn_peer(conn, text, sizeof text), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_conn_set_user(conn, &freed, count_free), AHOY_ERR_STALE);
    CHECK(ahoy_conn_user(conn) == NULL);
    CHECK_EQ(ahoy_conn_server(conn).id, 0);

    CHECK_TEXT(text, "untouched");
    CHECK_EQ(latch_count(&freed), 0); /* what was refused stayed ours */
}

int main(void) {
    tally seen = TALLY_INIT;
    ahoy_server_options options = OPTIONS(.listen = LOOPBACK, .workers = 1, .on_open = tally_open,
                                          .on_message = tally_message, .on_close = tally_close,
                                          .user = &seen);

    /* Two generations of handles that have ended, and one that lives. */
    uint64_t dead_servers[2], dead_conns[2];
    for (int i = 0; i < 2; i++) {
        ahoy_server server = start(options);
        int fd = dial(server);
        latch_wait(&seen.opened, i + 1);
        dead_servers[i] = server.id;
        dead_conns[i] = tally_conn(&seen).id;
        ahoy_server_free(server);
        close(fd);
    }
    ahoy_server alive = start(options);
    int fd = dial(alive);
    latch_wait(&seen.opened, 3);
    ahoy_conn alive_conn = tally_conn(&seen);
    CHECK(alive.id != dead_servers[0] && alive.id != dead_servers[1]);
    CHECK(alive_conn.id != dead_conns[0] && alive_conn.id != dead_conns[1]);

    for (int i = 0; i < 2; i++) {
        refuses_server(dead_servers[i]);
        refuses_conn(dead_conns[i]);
    }

    /* A connection that has closed on a server that lives. */
    close(fd);
    latch_wait(&seen.closed, 3);
    WAIT_UNTIL(ahoy_conn_server(alive_conn).id == 0);
    refuses_conn(alive_conn.id);
    fd = dial(alive);
    latch_wait(&seen.opened, 4);
    CHECK(tally_conn(&seen).id != alive_conn.id); /* its place has a new generation */
    refuses_conn(alive_conn.id);
    alive_conn = tally_conn(&seen);

    /* Forged: numbers near real ones, mixed-up kinds, every single bit flipped. */
    const uint64_t forged[] = { 0, 1, 2, UINT32_MAX, 1ull << 32, UINT64_MAX, UINT64_MAX - 1, INT64_MAX };
    for (size_t i = 0; i < sizeof forged / sizeof forged[0]; i++) {
        if (forged[i] != alive.id) refuses_server(forged[i]);
        if (forged[i] != alive_conn.id) refuses_conn(forged[i]);
    }
    refuses_server(alive_conn.id);
    refuses_conn(alive.id);
    for (int bit = 0; bit < 64; bit++) {
        refuses_server(alive.id ^ 1ull << bit);
        refuses_conn(alive_conn.id ^ 1ull << bit);
    }

    /* None of that hurt those that live. */
    CHECK_OK(ahoy_send(alive_conn, "alive", 5));
    char answer[5];
    recv_exact(fd, answer, sizeof answer);
    ahoy_server_free(alive);
    close(fd);
    return 0;
}
