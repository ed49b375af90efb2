#include "stage.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { QUEUE_BYTES = 65536 };

const char *const place_names[PLACES] = {
    "on_open", "on_message", "on_writable", "on_end", "on_timer", "on_drain", "on_close",
    "on_message of a subscription", "on_free of a send", "on_free of a timer", "on_free of a subscription",
    "on_free of a connection's user", "on_free of a server",
};

static void reach(stage *stage, place here) {
    if (here != stage->at) return;
    CHECK_EQ(latch_count(&stage->acted), 0);
    stage->act(stage);
    latch_add(&stage->acted, 1);
}

static void free_send(void *user) {
    reach(user, ON_FREE_SEND);
    latch_add(&((stage *)user)->sends_freed, 1);
}

static void free_user(void *user) {
    reach(user, ON_FREE_USER);
    latch_add(&((stage *)user)->users_freed, 1);
}

static void free_server(void *user) {
    reach(user, ON_FREE_SERVER);
    tally_free(&((stage *)user)->seen);
}

static void free_timer(void *user) {
    reach(user, ON_FREE_TIMER);
    latch_add(&((stage *)user)->timers_freed, 1);
}

static void free_subscription(void *user) {
    reach(user, ON_FREE_SUBSCRIPTION);
    latch_add(&((stage *)user)->subscriptions_freed, 1);
}

/* The connection closes when all of these have happened, in whichever order. */
static void close_after(stage *stage) {
    if (latch_count(&stage->seen.writable) + latch_count(&stage->seen.ended) + latch_count(&stage->ticked) +
        latch_count(&stage->heard) < 4) return;
    if (stage->at == ON_DRAIN) ahoy_server_stop(stage->server, 60000);
    else ahoy_conn_close(stage->conn);
}

static void on_timer(ahoy_timer timer, ahoy_conn conn, void *user) {
    stage *stage = user;
    CHECK(timer.id != 0);
    CHECK_EQ(conn.id, stage->conn.id);
    CHECK_EQ(latch_count(&stage->seen.closed), 0);
    reach(stage, ON_TIMER);
    latch_add(&stage->ticked, 1);
    close_after(stage);
}

static void on_topic(ahoy_server server, const char *topic, const void *data, size_t len, void *user) {
    stage *stage = user;
    CHECK_EQ(server.id, stage->server.id);
    CHECK_TEXT(topic, "stage");
    CHECK(len == 4 && memcmp(data, "play", 4) == 0);
    reach(stage, ON_TOPIC);
    CHECK_OK(ahoy_unsubscribe(stage->subscription));
    latch_add(&stage->heard, 1);
    close_after(stage);
}

static void on_drain(ahoy_conn conn, void *user) {
    reach(user, ON_DRAIN);
    ahoy_conn_close(conn);
}

static void on_open(ahoy_conn conn, void *user) {
    stage *stage = user;
    stage->conn = conn;
    stage->server = ahoy_conn_server(conn);
    CHECK_OK(ahoy_conn_set_user(conn, stage, free_user));
    CHECK_OK(ahoy_conn_timer_start(conn, 1, 0, on_timer, stage, free_timer, NULL));
    CHECK_OK(ahoy_subscribe(stage->server, "stage", on_topic, stage, free_subscription, &stage->subscription));
    CHECK_OK(ahoy_publish(stage->server, "stage", "play", 4));
    tally_open(conn, &stage->seen);
    reach(stage, ON_OPEN);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    static const char block[4096] = { 0 };
    stage *stage = user;
    tally_message(conn, data, len, &stage->seen);
    reach(stage, ON_MESSAGE);
    ahoy_status status = ahoy_send_owned(conn, "owned", 5, free_send, stage);
    if (status) free_send(stage);
    while (!status) status = ahoy_send(conn, block, sizeof block);
    /* Nothing leaves inside a callback, so the queue fills, unless the act has closed it all. */
    CHECK(status == AHOY_ERR_AGAIN || status == AHOY_ERR_CLOSED || status == AHOY_ERR_STALE);
}

static void on_writable(ahoy_conn conn, void *user) {
    stage *stage = user;
    tally_writable(conn, &stage->seen);
    reach(stage, ON_WRITABLE);
    close_after(stage);
}

static void on_end(ahoy_conn conn, void *user) {
    stage *stage = user;
    tally_end(conn, &stage->seen);
    reach(stage, ON_END);
    close_after(stage);
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    stage *stage = user;
    CHECK_EQ(conn.id, stage->conn.id);
    CHECK_EQ(latch_count(&stage->users_freed), 0); /* the user outlives the last callback */
    reach(stage, ON_CLOSE);
    tally_close(conn, reason, &stage->seen);
}

/* What happens to the connection depends on the act: errors are fine here. */
static void *client(void *arg) {
    stage *stage = arg;
    char buffer[4096];
    ssize_t got;
    int fd = dial(stage->server);
    ssize_t sent = send(fd, "hi", 2, MSG_NOSIGNAL);
    if (sent == 2) shutdown(fd, SHUT_WR);
    while ((got = recv(fd, buffer, sizeof buffer, 0)) > 0 || (got < 0 && errno == EINTR)) {
        for (ssize_t i = 0; i < got; i++) stage->marks += buffer[i] == STAGE_MARK;
    }
    close(fd);
    return NULL;
}

void stage_play(stage *stage, place at, int32_t workers, void (*act)(struct stage *stage)) {
    *stage = (struct stage){
        .seen = TALLY_INIT, .sends_freed = LATCH_INIT, .users_freed = LATCH_INIT,
        .ticked = LATCH_INIT, .timers_freed = LATCH_INIT, .heard = LATCH_INIT,
        .subscriptions_freed = LATCH_INIT, .acted = LATCH_INIT, .at = at, .act = act,
    };
    holdings before = holdings_now();
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = workers, .user = stage,
                                       .queue_bytes_max = QUEUE_BYTES,
                                       .on_open = on_open, .on_message = on_message,
                                       .on_writable = on_writable, .on_end = on_end,
                                       .on_drain = at == ON_DRAIN ? on_drain : NULL,
                                       .on_close = on_close, .on_free = free_server));
    pthread_t thread;
    stage->server = server;
    CHECK(!pthread_create(&thread, NULL, client, stage));
    if (workers == AHOY_WORKERS_NONE) {
        while (latch_count(&stage->seen.closed) == 0 && ahoy_server_turn(server, 1000) == AHOY_OK) {}
    }
    latch_wait(&stage->seen.closed, 1);
    ahoy_server_free(server);
    latch_wait(&stage->seen.freed, 1);
    CHECK(!pthread_join(thread, NULL));

    CHECK_STATUS(ahoy_server_stop(server, 0), AHOY_ERR_STALE);
    CHECK_EQ(latch_count(&stage->acted), 1);
    CHECK_EQ(latch_count(&stage->seen.opened), 1);
    CHECK_EQ(latch_count(&stage->seen.closed), 1);
    CHECK_EQ(latch_count(&stage->seen.freed), 1);
    CHECK_EQ(latch_count(&stage->users_freed), 1);
    CHECK_EQ(latch_count(&stage->timers_freed), 1);
    CHECK_EQ(latch_count(&stage->subscriptions_freed), 1);
    CHECK_EQ(latch_count(&stage->sends_freed), latch_count(&stage->seen.messages));
    /* A server that was freed inside a callback leaves a moment later. */
    WAIT_UNTIL(threads_running() == before.threads);
    WAIT_UNTIL(descriptors_open() == before.descriptors);
}
