/*
 * Queues with the program's own loop: handlers and callbacks run inside a turn; a blocking push runs the turns itself; what
 * another thread pushes makes ahoy_server_fd readable; a delay and a redelivery come by the turns' timers.
 */
#include "support.h"

#include <poll.h>

static ahoy_server server;
static pthread_t loop_thread;
static latch taken = LATCH_INIT, done = LATCH_INIT, freed = LATCH_INIT;

static void take(ahoy_job job, const void *data, size_t len, uint32_t tries, void *user) {
    (void)data, (void)len, (void)user;
    CHECK(pthread_equal(pthread_self(), loop_thread));
    if (tries == 1) CHECK_OK(ahoy_job_retry(job, 30));
    if (tries == 3) CHECK_OK(ahoy_job_done(job));
    latch_add(&taken, 1);
}

static void on_done(ahoy_server from, ahoy_status status, void *user) {
    (void)from, (void)user;
    CHECK(pthread_equal(pthread_self(), loop_thread));
    CHECK_OK(status);
    latch_add(&done, 1);
}

static void poll_and_turn(void) {
    struct pollfd entry = { .events = POLLIN };
    CHECK_OK(ahoy_server_fd(server, &entry.fd));
    CHECK(poll(&entry, 1, -1) == 1);
    CHECK_OK(ahoy_server_turn(server, 0));
}

static void *push(void *unused) {
    (void)unused;
    CHECK_OK(ahoy_queue_push(server, "loop", "x", 1, NULL, on_done, NULL));
    return NULL;
}

int main(void) {
    holdings before = holdings_now();
    pthread_t thread;
    ahoy_work work;
    uint64_t waiting = 9, in_hand = 9;
    loop_thread = pthread_self();
    server = start(OPTIONS(.workers = AHOY_WORKERS_NONE));
    ahoy_work_options options = { .size = sizeof options, .in_hand_max = 2, .ack_ms = 40 };
    CHECK_OK(ahoy_queue_push_wait(server, "loop", "x", 1, NULL));
    CHECK_OK(ahoy_queue_work(server, "loop", &options, take, &freed, count_free, &work));
    CHECK_EQ(latch_count(&taken), 0);
    /* Its first try is put off, its second is forgotten. */
    while (latch_count(&taken) < 3) poll_and_turn();
    CHECK_OK(ahoy_queue_counts_wait(server, "loop", &waiting, &in_hand, NULL));
    CHECK_EQ(waiting + in_hand, 0);
    CHECK(!pthread_create(&thread, NULL, push, NULL));
    while (latch_count(&taken) < 4 || latch_count(&done) < 1) poll_and_turn();
    CHECK(!pthread_join(thread, NULL));
    CHECK_OK(ahoy_work_stop(work));
    while (latch_count(&freed) < 1) poll_and_turn();
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&freed), 1);
    CHECK_HOLDINGS(before);
    return 0;
}
