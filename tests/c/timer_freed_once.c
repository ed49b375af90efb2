/*
 * However a timer ends, its on_free is called exactly once: fired, cancelled here or there, its connection closed,
 * its server stopped or freed; also when several of these happen at once. When the start fails it is not called.
 */
#include "support.h"

#include <unistd.h>

enum { THREADS = 4, TIMERS = 400 };

static tally seen;

/* A use after the free would show under a sanitizer. */
typedef struct life {
    latch *freed;
    ahoy_timer timer;
    int magic;
} life;

static void on_free(void *user) {
    life *life = user;
    CHECK_EQ(life->magic, 4711);
    life->magic = 0;
    latch_add(life->freed, 1);
    free(life);
}

static void on_timer(ahoy_timer timer, ahoy_conn conn, void *user) {
    (void)timer, (void)conn;
    CHECK_EQ(((life *)user)->magic, 4711);
}

static life *new_life(latch *freed) {
    life *life = malloc(sizeof *life);
    *life = (struct life){ freed, { 0 }, 4711 };
    return life;
}

static void check_not_freed(ahoy_status status, ahoy_status expected, life *life) {
    CHECK_STATUS(status, expected);
    CHECK_EQ(life->magic, 4711);
    CHECK_EQ(life->timer.id, 0);
    CHECK_EQ(latch_count(life->freed), 0);
}

static void failed_starts(void) {
    latch freed = LATCH_INIT;
    life *life = new_life(&freed);
    ahoy_server server = start(OPTIONS(.workers = 1, .user = &seen, .on_open = tally_open)), gone = { 0 };
    check_not_freed(ahoy_timer_start(server, 0, 0, NULL, life, on_free, &life->timer), AHOY_ERR_NULL, life);
    check_not_freed(ahoy_timer_start(gone, 0, 0, on_timer, life, on_free, &life->timer), AHOY_ERR_STALE, life);
    check_not_freed(ahoy_conn_timer_start((ahoy_conn){ 0 }, 0, 0, on_timer, life, on_free, &life->timer),
                    AHOY_ERR_STALE, life);
    int pair[2];
    ahoy_conn conn;
    stream_pair(pair);
    CHECK_OK(ahoy_server_adopt(server, pair[0], &conn));
    check_not_freed(ahoy_conn_timer_start(conn, 0, 0, NULL, life, on_free, &life->timer), AHOY_ERR_NULL, life);
    CHECK_OK(ahoy_server_stop(server, 0));
    CHECK_OK(ahoy_server_wait(server));
    check_not_freed(ahoy_timer_start(server, 0, 0, on_timer, life, on_free, &life->timer), AHOY_ERR_STOPPED, life);
    check_not_freed(ahoy_conn_timer_start(conn, 0, 0, on_timer, life, on_free, &life->timer), AHOY_ERR_STALE, life);
    ahoy_server_free(server);
    check_not_freed(ahoy_timer_start(server, 0, 0, on_timer, life, on_free, &life->timer), AHOY_ERR_STALE, life);
    free(life);
    close(pair[1]);
}

static void ended_with(const char *what) {
    enum { EACH = 10 };
    latch freed = LATCH_INIT;
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen, .on_open = tally_open,
                                       .on_close = tally_close));
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    ahoy_conn conn = tally_conn(&seen);
    for (int i = 0; i < EACH; i++) {
        uint32_t every_ms = i % 2 ? 1 : 0, after_ms = every_ms ? 0 : 3600 * 1000;
        CHECK_OK(ahoy_conn_timer_start(conn, after_ms, every_ms, on_timer, new_life(&freed), on_free, NULL));
        CHECK_OK(ahoy_timer_start(server, after_ms, every_ms, on_timer, new_life(&freed), on_free, NULL));
    }
    if (!strcmp(what, "peer")) close(fd);
    if (!strcmp(what, "close")) CHECK_OK(ahoy_conn_close(conn));
    if (!strcmp(what, "abort")) CHECK_OK(ahoy_conn_abort(conn));
    if (!strcmp(what, "stop")) CHECK_OK(ahoy_server_stop(server, 0));
    if (strcmp(what, "free")) {
        latch_wait(&freed, EACH);
        latch_wait(&seen.closed, 1);
    }
    /* The server's own timers run on while it does. */
    if (strcmp(what, "free") && strcmp(what, "stop")) WAIT_UNTIL(stats_of(server).timers == EACH);
    if (!strcmp(what, "stop")) {
        CHECK_OK(ahoy_server_wait(server));
        CHECK_EQ(latch_count(&freed), 2 * EACH);
    }
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&freed), 2 * EACH);
    if (strcmp(what, "peer")) close(fd);
}

/* Threads start and cancel, timers fire, connections close, and in the end the server stops: all at once. */
static ahoy_server server;
static latch freed, ready;
static atomic_long started;

static void *churn(void *arg) {
    uint32_t seed = (uint32_t)(uintptr_t)arg;
    int fd = dial(server);
    ahoy_conn conn = tally_conn(&seen); /* anybody's */
    for (uint32_t i = seed; i < seed + (uint32_t)rounds(TIMERS); i++) {
        life *life = new_life(&freed);
        ahoy_timer timer;
        ahoy_status status = i % 3
            ? ahoy_timer_start(server, i % 4, i % 5 ? 0 : 1, on_timer, life, on_free, &timer)
            : ahoy_conn_timer_start(conn, i % 4, i % 5 ? 0 : 1, on_timer, life, on_free, &timer);
        if (status == AHOY_OK) started++;
        else free(life);
        if (status == AHOY_OK && i % 2) ahoy_timer_cancel(timer);
        if (i % 50 == 0) {
            close(fd);
            fd = dial(server);
            conn = tally_conn(&seen);
        }
        if (i == seed + 10) latch_add(&ready, 1);
        if (status == AHOY_ERR_STOPPED) break;
    }
    close(fd);
    return NULL;
}

static void all_at_once(void) {
    seen = (tally)TALLY_INIT;
    freed = ready = (latch)LATCH_INIT;
    started = 0;
    server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen, .on_open = tally_open,
                           .on_close = tally_close));
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, churn, (void *)(i * 1000)));
    for (int i = 0; i < THREADS; i++) CHECK(!pthread_join(threads[i], NULL));
    CHECK(started > 0);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&freed), started);
}

static void *stop_in_the_middle(void *unused) {
    (void)unused;
    latch_wait(&freed, 50);
    CHECK_OK(ahoy_server_stop(server, 0));
    return NULL;
}

static void *start_many(void *unused) {
    (void)unused;
    ahoy_status status = AHOY_OK;
    while (status != AHOY_ERR_STOPPED) {
        life *life = new_life(&freed);
        status = ahoy_timer_start(server, 0, 0, on_timer, life, on_free, NULL);
        CHECK(status == AHOY_OK || status == AHOY_ERR_STOPPED || status == AHOY_ERR_AGAIN);
        if (status == AHOY_OK) started++;
        else free(life);
    }
    return NULL;
}

/* What was accepted before the stop is freed; what comes after it is refused. */
static void around_a_stop(void) {
    freed = (latch)LATCH_INIT;
    started = 0;
    server = start(OPTIONS(.workers = 2));
    pthread_t threads[THREADS];
    CHECK(!pthread_create(&threads[0], NULL, stop_in_the_middle, NULL));
    for (int i = 1; i < THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, start_many, NULL));
    for (int i = 0; i < THREADS; i++) CHECK(!pthread_join(threads[i], NULL));
    CHECK_OK(ahoy_server_wait(server));
    CHECK_EQ(latch_count(&freed), started);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&freed), started);
}

int main(void) {
    failed_starts();
    static const char *const ways[] = { "peer", "close", "abort", "stop", "free" };
    for (int i = 0; i < 5; i++) ended_with(ways[i]);
    all_at_once();
    around_a_stop();
    return 0;
}
