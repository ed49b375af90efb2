/*
 * A child after fork is told AHOY_ERR_FORKED by the functions of conversations, too: nothing is sent, connected,
 * started or handed over there, and what was passed in stays the child's. The parent goes on.
 */
#include "remote.h"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static tally seen = TALLY_INIT, echoed = TALLY_INIT;
static latch freed = LATCH_INIT;
static char url[128];

typedef struct objects {
    ahoy_server server;
    ahoy_conn conn;
    ahoy_timer timer;
    ahoy_subscription subscription;
} objects;

static void on_timer(ahoy_timer timer, ahoy_conn conn, void *user) {
    (void)timer, (void)conn, (void)user;
    latch_add(&seen.messages, 1000); /* it is to run in an hour */
}

static void on_topic(ahoy_server server, const char *topic, const void *data, size_t len, void *user) {
    (void)server, (void)topic, (void)data, (void)user;
    latch_add(&seen.bytes, (long)len);
}

static void child(objects own) {
    const ahoy_part part = { "x", 1 };
    ahoy_timer timer = { 77 };
    ahoy_subscription subscription = { 77 };
    ahoy_conn conn = { 77 };
    ahoy_connect_options options = CONNECT_OPTIONS(.user = &freed, .on_free = count_free);
    char text[64] = "untouched";
    size_t count = 77;
    int fds[4] = { 77, 77, 77, 77 }, pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) _exit(2);

    CHECK_STATUS(ahoy_send_parts(own.conn, &part, 1), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_conn_abort(own.conn), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_conn_end(own.conn), AHOY_ERR_FORKED);
    CHECK_EQ(ahoy_conn_queued(own.conn), 0);
    CHECK_STATUS(ahoy_timer_start(own.server, 0, 0, on_timer, &freed, count_free, &timer), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_conn_timer_start(own.conn, 0, 0, on_timer, &freed, count_free, &timer), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_timer_cancel(own.timer), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_conn_join(own.conn, "news"), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_conn_leave(own.conn, "news"), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_publish(own.server, "news", "x", 1), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_subscribe(own.server, "news", on_topic, &freed, count_free, &subscription), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_unsubscribe(own.subscription), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_connect(own.server, url, &options, &conn), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_request(url, NULL, "x", 1, text, sizeof text, &count), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_server_listeners(own.server, fds, 4, &count), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_descriptors_send(pair[0], pair, 1), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_descriptors_receive(pair[1], fds, 4, &count), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_metrics_text(own.server, text, sizeof text, &count), AHOY_ERR_FORKED);

    CHECK_EQ(timer.id, 77);
    CHECK_EQ(subscription.id, 77);
    CHECK_EQ(conn.id, 77);
    CHECK_EQ(count, 77);
    CHECK_EQ(fds[0], 77);
    CHECK_TEXT(text, "untouched");
    CHECK_EQ(freed.count, 0); /* not by the latch's functions: a thread of the parent may have held its lock */
}

static void check_child(objects own) {
    int status;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        alarm(20); /* a child does not inherit the deadline */
        child(own);
        leave_child();
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQ(status, 0);
}

int main(void) {
    objects own;
    ahoy_server far = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &echoed, .on_message = tally_echo));
    CHECK_OK(ahoy_server_address(far, 0, url, sizeof url));
    own.server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen, .on_open = tally_open,
                               .on_message = tally_message, .on_close = tally_close));
    own.conn = outgoing(own.server, url, CONNECT_OPTIONS(0));
    latch_wait(&seen.opened, 1);
    CHECK_OK(ahoy_conn_timer_start(own.conn, 3600 * 1000, 0, on_timer, &freed, count_free, &own.timer));
    CHECK_OK(ahoy_subscribe(own.server, "news", on_topic, &freed, count_free, &own.subscription));

    for (long round = 1; round <= 5; round++) {
        check_child(own);
        CHECK_OK(ahoy_send(own.conn, "echo", 4));
        latch_wait(&seen.bytes, round * 5 - 1);
        CHECK_OK(ahoy_publish(own.server, "news", "x", 1));
        latch_wait(&seen.bytes, round * 5);
    }
    CHECK_EQ(latch_count(&echoed.bytes), 5 * 4); /* nothing from the children */
    CHECK_EQ(latch_count(&seen.closed), 0);
    CHECK_EQ(latch_count(&freed), 0);
    ahoy_server_free(own.server);
    ahoy_server_free(far);
    CHECK_EQ(latch_count(&seen.closed), 1);
    CHECK_EQ(latch_count(&freed), 2);
    return 0;
}
