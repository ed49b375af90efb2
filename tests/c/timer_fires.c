/*
 * A timer of a server fires once, or again and again; never early; with its own handle, no connection, and its user.
 * When it has fired for the last time its on_free is called, once. A call that comes late does not lead to two in
 * a row.
 */
#include "support.h"

enum { ONE_SHOTS = 20, REPEATS = 10, EVERY_MS = 10, BLOCK_MS = 100 };

typedef struct clockwork {
    latch fired, freed;
    ahoy_timer timer;
    long begin_ms, after_ms, every_ms;
    long times_ms[64];
    atomic_bool inside;
} clockwork;

static void on_free(void *user) {
    clockwork *works = user;
    CHECK(!works->inside);
    latch_add(&works->freed, 1);
}

static void on_timer(ahoy_timer timer, ahoy_conn conn, void *user) {
    clockwork *works = user;
    long now = now_ms(), count = latch_count(&works->fired);
    CHECK(!works->inside);
    works->inside = true;
    CHECK_EQ(timer.id, works->timer.id);
    CHECK_EQ(conn.id, 0);
    CHECK_EQ(latch_count(&works->freed), 0);
    CHECK(now >= works->begin_ms + works->after_ms + count * works->every_ms);
    works->times_ms[count] = now;
    if (works->every_ms && count + 1 == REPEATS) CHECK_OK(ahoy_timer_cancel(timer));
    works->inside = false;
    latch_add(&works->fired, 1);
}

static void begin(ahoy_server server, clockwork *works, uint32_t after_ms, uint32_t every_ms) {
    *works = (clockwork){ .fired = LATCH_INIT, .freed = LATCH_INIT, .after_ms = after_ms, .every_ms = every_ms,
                          .begin_ms = now_ms() };
    CHECK_OK(ahoy_timer_start(server, after_ms, every_ms, on_timer, works, on_free, &works->timer));
    CHECK(works->timer.id != 0);
}

static void one_shots(ahoy_server server) {
    static clockwork works[ONE_SHOTS];
    for (int i = ONE_SHOTS - 1; i >= 0; i--) begin(server, &works[i], (uint32_t)(i * i) / 3, 0);
    for (int i = 0; i < ONE_SHOTS; i++) {
        latch_wait(&works[i].freed, 1);
        CHECK_EQ(latch_count(&works[i].fired), 1);
        if (!is_slow()) CHECK(works[i].times_ms[0] - works[i].begin_ms < works[i].after_ms + 200);
        CHECK_STATUS(ahoy_timer_cancel(works[i].timer), AHOY_ERR_STALE);
    }
    for (int i = 0; i < ONE_SHOTS; i++) CHECK_EQ(latch_count(&works[i].freed), 1);
}

/* It ends itself; `after_ms` counts to the first call alone. */
static void repeating(ahoy_server server) {
    static clockwork works[3];
    begin(server, &works[0], 0, EVERY_MS);
    begin(server, &works[1], 3 * EVERY_MS, EVERY_MS / 5);
    begin(server, &works[2], 1, 1);
    for (int i = 0; i < 3; i++) {
        latch_wait(&works[i].freed, 1);
        CHECK_EQ(latch_count(&works[i].fired), REPEATS);
        CHECK_EQ(latch_count(&works[i].freed), 1);
    }
}

static latch slept = LATCH_INIT;
static long slow_times_ms[8];

static void sleepy(ahoy_timer timer, ahoy_conn conn, void *user) {
    (void)conn, (void)user;
    long count = latch_count(&slept);
    slow_times_ms[count] = now_ms();
    while (count == 0 && now_ms() < slow_times_ms[0] + BLOCK_MS) wait_moment();
    if (count == 7) CHECK_OK(ahoy_timer_cancel(timer));
    latch_add(&slept, 1);
}

/* The calls that a long callback has made impossible are not caught up with. */
static void late(ahoy_server server) {
    CHECK_OK(ahoy_timer_start(server, EVERY_MS, EVERY_MS, sleepy, NULL, NULL, NULL));
    latch_wait(&slept, 8);
    CHECK(slow_times_ms[1] >= slow_times_ms[0] + BLOCK_MS);
    CHECK(slow_times_ms[7] >= slow_times_ms[1] + 5 * EVERY_MS);
}

int main(void) {
    for (int32_t workers = 1; workers <= 2; workers++) {
        ahoy_server server = start(OPTIONS(.workers = workers));
        one_shots(server);
        repeating(server);
        slept = (latch)LATCH_INIT;
        late(server);
        WAIT_UNTIL(stats_of(server).timers == 0);
        ahoy_timer untouched = { 77 };
        CHECK_STATUS(ahoy_timer_start(server, 1, 0, NULL, NULL, NULL, &untouched), AHOY_ERR_NULL);
        CHECK_EQ(untouched.id, 77);
        ahoy_server_free(server);
    }
    return 0;
}
