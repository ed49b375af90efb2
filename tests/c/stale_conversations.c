/*
 * A stale, forged or zero handle gives AHOY_ERR_STALE from the functions of conversations, too, and what was passed in
 * stays the program's. Timers and subscriptions are told apart from connections and servers, and from each other.
 */
#include "remote.h"


static tally seen = TALLY_INIT;
static latch freed = LATCH_INIT;

static void on_timer(ahoy_timer timer, ahoy_conn conn, void *user) {
    (void)timer, (void)conn, (void)user;
}

static void on_topic(ahoy_server server, const char *topic, const void *data, size_t len, void *user) {
    (void)server, (void)topic, (void)data, (void)user;
    latch_add(&seen.bytes, (long)len);
}

static void refuses_server(uint64_t id) {
    ahoy_server server = { id };
    ahoy_timer timer = { 77 };
    ahoy_subscription subscription = { 77 };
    ahoy_conn conn = { 77 };
    ahoy_connect_options options = CONNECT_OPTIONS(.user = &freed, .on_free = count_free);
    char text[64] = "untouched";
    size_t count = 77;
    int fds[4] = { 77 };
    CHECK_STATUS(ahoy_timer_start(server, 0, 0, on_timer, &freed, count_free, &timer), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_publish(server, "news", "x", 1), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_subscribe(server, "news", on_topic, &freed, count_free, &subscription), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_connect(server, "tcp://127.0.0.1:1", &options, &conn), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_server_listeners(server, fds, 4, &count), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_metrics_text(server, text, sizeof text, &count), AHOY_ERR_STALE);
    CHECK_EQ(timer.id, 77);
    CHECK_EQ(subscription.id, 77);
    CHECK_EQ(conn.id, 77);
    CHECK_EQ(count, 77);
    CHECK_EQ(fds[0], 77);
    CHECK_TEXT(text, "untouched");
}

static void refuses_conn(uint64_t id) {
    ahoy_conn conn = { id };
    ahoy_timer timer = { 77 };
    const ahoy_part part = { "x", 1 };
    CHECK_STATUS(ahoy_send_parts(conn, &part, 1), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_conn_abort(conn), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_conn_end(conn), AHOY_ERR_STALE);
    CHECK_EQ(ahoy_conn_queued(conn), 0);
    CHECK_STATUS(ahoy_conn_join(conn, "news"), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_conn_leave(conn, "news"), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_conn_timer_start(conn, 0, 0, on_timer, &freed, count_free, &timer), AHOY_ERR_STALE);
    CHECK_EQ(timer.id, 77);
}

static void refuses_timer(uint64_t id) {
    CHECK_STATUS(ahoy_timer_cancel((ahoy_timer){ id }), AHOY_ERR_STALE);
}

static void refuses_subscription(uint64_t id) {
    CHECK_STATUS(ahoy_unsubscribe((ahoy_subscription){ id }), AHOY_ERR_STALE);
}

typedef struct objects {
    ahoy_server server;
    ahoy_conn conn;
    ahoy_timer timer;
    ahoy_subscription subscription;
} objects;

static objects begin(const char *url) {
    objects own;
    long opened = latch_count(&seen.opened);
    own.server = start(OPTIONS(.workers = 1, .user = &seen, .on_open = tally_open, .on_message = tally_message));
    own.conn = outgoing(own.server, url, CONNECT_OPTIONS(0));
    latch_wait(&seen.opened, opened + 1);
    CHECK_OK(ahoy_conn_timer_start(own.conn, 3600 * 1000, 0, on_timer, &freed, count_free, &own.timer));
    CHECK_OK(ahoy_subscribe(own.server, "news", on_topic, &freed, count_free, &own.subscription));
    CHECK(own.timer.id && own.subscription.id);
    return own;
}

int main(void) {
    remote far = remote_process(true); /* whose connections have no handles here */
    const char *url = far.url;

    /* Two generations that have ended, and one that lives. */
    objects dead[2];
    for (int i = 0; i < 2; i++) {
        dead[i] = begin(url);
        ahoy_server_free(dead[i].server);
    }
    CHECK_EQ(latch_count(&freed), 4);
    freed = (latch)LATCH_INIT;
    objects alive = begin(url);
    for (int i = 0; i < 2; i++) {
        refuses_server(dead[i].server.id);
        refuses_conn(dead[i].conn.id);
        refuses_timer(dead[i].timer.id);
        refuses_subscription(dead[i].subscription.id);
    }

    /* Ended one by one, on a server that lives. */
    ahoy_timer timer;
    ahoy_subscription subscription;
    latch gone = LATCH_INIT;
    CHECK_OK(ahoy_timer_start(alive.server, 3600 * 1000, 0, on_timer, &gone, count_free, &timer));
    CHECK_OK(ahoy_subscribe(alive.server, "news", on_topic, &gone, count_free, &subscription));
    CHECK_OK(ahoy_timer_cancel(timer));
    CHECK_OK(ahoy_unsubscribe(subscription));
    latch_wait(&gone, 2);
    WAIT_UNTIL(ahoy_timer_cancel(timer) == AHOY_ERR_STALE);
    WAIT_UNTIL(ahoy_unsubscribe(subscription) == AHOY_ERR_STALE);
    ahoy_conn closed = outgoing(alive.server, url, CONNECT_OPTIONS(0));
    CHECK_OK(ahoy_conn_abort(closed));
    WAIT_UNTIL(ahoy_conn_server(closed).id == 0);
    refuses_conn(closed.id);

    /* Forged: every single bit flipped, other kinds, and numbers of no kind. */
    for (int bit = 0; bit < 64; bit++) {
        refuses_server(alive.server.id ^ 1ull << bit);
        refuses_conn(alive.conn.id ^ 1ull << bit);
        refuses_timer(alive.timer.id ^ 1ull << bit);
        refuses_subscription(alive.subscription.id ^ 1ull << bit);
    }
    const uint64_t forged[] = { 0, UINT64_MAX, INT64_MAX, 1ull << 32 };
    for (size_t i = 0; i < sizeof forged / sizeof forged[0]; i++) {
        refuses_server(forged[i]), refuses_conn(forged[i]);
        refuses_timer(forged[i]), refuses_subscription(forged[i]);
    }

    /* None of that hurt those that live. */
    CHECK_EQ(latch_count(&freed), 0);
    long bytes = latch_count(&seen.bytes);
    CHECK_OK(ahoy_send(alive.conn, "echo", 4));
    latch_wait(&seen.bytes, bytes + 4);
    CHECK_OK(ahoy_publish(alive.server, "news", "x", 1));
    latch_wait(&seen.bytes, bytes + 5);
    ahoy_server_free(alive.server);
    CHECK_EQ(latch_count(&freed), 2);
    remote_end(&far);
    return 0;
}
