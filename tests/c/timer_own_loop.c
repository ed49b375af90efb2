/*
 * With the program's own loop timers make ahoy_server_fd readable when they are due: not before, and soon after; also
 * those that another thread has started meanwhile. A loop with a distant timer sleeps.
 */
#include "support.h"

#include <poll.h>
#include <unistd.h>

enum { AFTER_MS = 100 };

static latch fired = LATCH_INIT, freed = LATCH_INIT;
static pthread_t loop_thread;
static ahoy_server server;
static long turns;

static void on_timer(ahoy_timer timer, ahoy_conn conn, void *user) {
    (void)timer, (void)conn, (void)user;
    CHECK(pthread_equal(pthread_self(), loop_thread));
    latch_add(&fired, 1);
}

static void poll_and_turn(void) {
    struct pollfd entry = { .events = POLLIN };
    CHECK_OK(ahoy_server_fd(server, &entry.fd));
    CHECK(poll(&entry, 1, -1) == 1);
    CHECK_OK(ahoy_server_turn(server, 0));
    turns++;
}

static void *start_another(void *timer) {
    CHECK_OK(ahoy_timer_start(server, 5, 0, on_timer, &freed, count_free, timer));
    return NULL;
}

int main(void) {
    holdings before = holdings_now();
    pthread_t thread;
    ahoy_timer timer, other;
    loop_thread = pthread_self();
    server = start(OPTIONS(.workers = AHOY_WORKERS_NONE));

    /* Due at once. */
    CHECK_OK(ahoy_timer_start(server, 0, 0, on_timer, &freed, count_free, NULL));
    while (latch_count(&freed) < 1) poll_and_turn();
    CHECK_EQ(latch_count(&fired), 1);

    /* In time, and without a loop that spins. */
    long begin_ms = now_ms();
    turns = 0;
    CHECK_OK(ahoy_timer_start(server, AFTER_MS, 0, on_timer, &freed, count_free, &timer));
    while (latch_count(&freed) < 2) poll_and_turn();
    CHECK(now_ms() >= begin_ms + AFTER_MS);
    if (!is_slow()) CHECK(now_ms() < begin_ms + AFTER_MS + 50);
    CHECK(turns < 20);

    /* From another thread, while the loop sleeps for a timer that is far away. */
    CHECK_OK(ahoy_timer_start(server, 3600000, 0, on_timer, &freed, count_free, &timer));
    CHECK(!pthread_create(&thread, NULL, start_another, &other));
    while (latch_count(&freed) < 3) poll_and_turn();
    CHECK(!pthread_join(thread, NULL));
    CHECK_EQ(latch_count(&fired), 3);

    /* A turn may wait itself. */
    begin_ms = now_ms();
    CHECK_OK(ahoy_timer_start(server, 20, 20, on_timer, &freed, count_free, &other));
    while (latch_count(&fired) < 6) CHECK_OK(ahoy_server_turn(server, -1));
    CHECK(now_ms() >= begin_ms + 60);

    /* Quiet again: the distant one alone does not keep the loop awake. */
    CHECK_OK(ahoy_timer_cancel(other));
    struct pollfd entry = { .events = POLLIN };
    CHECK_OK(ahoy_server_fd(server, &entry.fd));
    for (turns = 0; turns < 10 && poll(&entry, 1, 0) == 1; turns++) CHECK_OK(ahoy_server_turn(server, 0));
    CHECK(turns < 10);
    CHECK_EQ(latch_count(&freed), 4);
    CHECK_EQ(stats_of(server).timers, 1);
    CHECK_OK(ahoy_timer_cancel(timer));
    CHECK_OK(ahoy_server_turn(server, 0));
    CHECK_EQ(latch_count(&freed), 5);

    /* The rest ends inside the free. */
    CHECK_OK(ahoy_timer_start(server, 3600000, 0, on_timer, &freed, count_free, NULL));
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&freed), 6);
    CHECK_EQ(latch_count(&fired), 6);
    CHECK_HOLDINGS(before);
    return 0;
}
