/*
 * A timer that is cancelled in a callback on its worker does not run again, its own callback or another's. From
 * another thread it may still run, but never after its on_free. A timer that is over is stale.
 */
#include "support.h"

#include <unistd.h>

static tally seen = TALLY_INIT;

typedef struct clockwork {
    latch fired, freed;
    ahoy_timer timer;
} clockwork;

static void on_free(void *user) {
    latch_add(&((clockwork *)user)->freed, 1);
}

static void tick(ahoy_timer timer, ahoy_conn conn, void *user) {
    (void)timer, (void)conn;
    clockwork *works = user;
    CHECK_EQ(latch_count(&works->freed), 0);
    latch_add(&works->fired, 1);
}

static void cancel_itself(ahoy_timer timer, ahoy_conn conn, void *user) {
    CHECK_OK(ahoy_timer_cancel(timer));
    ahoy_status status = ahoy_timer_cancel(timer);
    CHECK(status == AHOY_OK || status == AHOY_ERR_STALE);
    tick(timer, conn, user);
}

static clockwork own, victims[100], bystander;

/* All of them are due in this very turn. */
static void start_and_cancel(ahoy_conn conn, const void *data, size_t len, void *user) {
    ahoy_server server = ahoy_conn_server(conn);
    for (int i = 0; i < 100; i++) {
        clockwork *works = &victims[i];
        if (i % 2) CHECK_OK(ahoy_timer_start(server, 0, i % 3 ? 1 : 0, tick, works, on_free, &works->timer));
        else CHECK_OK(ahoy_conn_timer_start(conn, (uint32_t)i / 50, 1, tick, works, on_free, &works->timer));
    }
    CHECK_OK(ahoy_timer_start(server, 1, 1, tick, &bystander, on_free, &bystander.timer));
    long begin_ms = now_ms();
    while (now_ms() < begin_ms + 5) {}
    for (int i = 0; i < 100; i++) CHECK_OK(ahoy_timer_cancel(victims[i].timer));
    tally_message(conn, data, len, user);
}

static void in_callbacks(void) {
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen,
                                       .on_message = start_and_cancel));
    CHECK_OK(ahoy_timer_start(server, 1, 1, cancel_itself, &own, on_free, &own.timer));
    latch_wait(&own.freed, 1);
    CHECK_EQ(latch_count(&own.fired), 1);
    CHECK_STATUS(ahoy_timer_cancel(own.timer), AHOY_ERR_STALE);

    int fd = dial(server);
    send_all(fd, "go", 2);
    for (int i = 0; i < 100; i++) latch_wait(&victims[i].freed, 1);
    latch_wait(&bystander.fired, 10); /* whoever was not cancelled goes on */
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(latch_count(&victims[i].fired), 0);
        CHECK_EQ(latch_count(&victims[i].freed), 1);
        CHECK_STATUS(ahoy_timer_cancel(victims[i].timer), AHOY_ERR_STALE);
    }
    WAIT_UNTIL(stats_of(server).timers == 1);
    CHECK_OK(ahoy_timer_cancel(bystander.timer));
    latch_wait(&bystander.freed, 1);
    WAIT_UNTIL(stats_of(server).timers == 0);
    close(fd);
    ahoy_server_free(server);
}

/* Each round a timer that may be firing just then. */
static void from_another_thread(void) {
    ahoy_server server = start(OPTIONS(.workers = 2));
    for (long round = rounds(300); round > 0; round--) {
        clockwork works = { .fired = LATCH_INIT, .freed = LATCH_INIT };
        uint32_t after_ms = (uint32_t)round % 3, every_ms = round % 2 ? 1 : 0;
        CHECK_OK(ahoy_timer_start(server, after_ms, every_ms, tick, &works, on_free, &works.timer));
        if (round % 4 == 0) latch_wait(&works.fired, 1);
        ahoy_status status = ahoy_timer_cancel(works.timer);
        CHECK(status == AHOY_OK || (status == AHOY_ERR_STALE && !every_ms));
        latch_wait(&works.freed, 1);
        CHECK_EQ(latch_count(&works.freed), 1);
        long fired = latch_count(&works.fired);
        CHECK(every_ms || fired <= 1);
        WAIT_UNTIL(ahoy_timer_cancel(works.timer) == AHOY_ERR_STALE);
    }
    CHECK_EQ(stats_of(server).timers, 0);
    ahoy_server_free(server);
}

int main(void) {
    own = bystander = (clockwork){ .fired = LATCH_INIT, .freed = LATCH_INIT };
    for (int i = 0; i < 100; i++) victims[i] = own;
    in_callbacks();
    from_another_thread();
    return 0;
}
