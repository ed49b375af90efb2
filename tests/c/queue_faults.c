/*
 * Queues when things go wrong: the server has as many calls under way as it may, thousands of jobs die at once, the store
 * is full.
 */
#include "support.h"

#define WORK(...) (&(ahoy_work_options){ .size = sizeof(ahoy_work_options), __VA_ARGS__ })

enum { CALLS_MAX = 65536, MANY = 20000, LARGE_BYTES = 60 << 20 };

static latch jobs = LATCH_INIT, kept = LATCH_INIT, replies = LATCH_INIT;
static ahoy_job last, many[MANY];
static _Atomic uint32_t tries_most;

static void keep_call(ahoy_incoming call, const void *data, size_t len, void *user) {
    (void)call, (void)data, (void)len, (void)user;
}

static void on_reply(ahoy_server from, ahoy_status status, const void *data, size_t len, void *user) {
    (void)from, (void)status, (void)data, (void)len, (void)user;
    latch_add(&replies, 1);
}

static void keep_job(ahoy_job job, const void *data, size_t len, uint32_t tries, void *user) {
    (void)data, (void)len, (void)user;
    last = job;
    if (tries > tries_most) tries_most = tries;
    latch_add(&jobs, 1);
}

static void keep_many(ahoy_job job, const void *data, size_t len, uint32_t tries, void *user) {
    int at;
    (void)tries, (void)user;
    CHECK_EQ(len, sizeof at);
    memcpy(&at, data, sizeof at);
    many[at] = job;
    latch_add(&kept, 1);
}

static void never(ahoy_job job, const void *data, size_t len, uint32_t tries, void *user) {
    (void)job, (void)data, (void)len, (void)tries, (void)user;
    CHECK(false);
}

static void drop_job(ahoy_job job, const void *data, size_t len, uint32_t tries, void *user) {
    (void)data, (void)len, (void)tries, (void)user;
    CHECK_OK(ahoy_job_drop(job, "nobody wants it"));
}

static bool are_dead(ahoy_server server, const char *queue, uint64_t expected) {
    uint64_t waiting, in_hand, dead;
    CHECK_OK(ahoy_queue_counts_wait(server, queue, &waiting, &in_hand, &dead));
    return waiting == 0 && in_hand == 0 && dead == expected;
}

/* A job comes all the same, to a place that it does not cost. */
static void jobs_beside_calls(void) {
    ahoy_service_options many = { .size = sizeof many, .in_hand_max = 2 * CALLS_MAX };
    ahoy_status status;
    long calls = 0;
    ahoy_server server = start(OPTIONS(.workers = 2));
    CHECK_OK(ahoy_service(server, "keep", &many, keep_call, NULL, NULL, NULL));
    for (int i = 0; i < 3; i++) CHECK_OK(ahoy_queue_push_wait(server, "jobs", &i, sizeof i, NULL));
    CHECK_OK(ahoy_queue_work(server, "jobs", WORK(.in_hand_max = 1), keep_job, NULL, NULL, NULL));
    latch_wait(&jobs, 1);
    while ((status = ahoy_call(server, "keep", "x", 1, NULL, on_reply, NULL)) == AHOY_OK) calls++;
    CHECK_STATUS(status, AHOY_ERR_AGAIN);
    CHECK(calls >= CALLS_MAX / 2 && calls <= CALLS_MAX);
    CHECK_OK(ahoy_job_done(last));
    latch_wait(&jobs, 2);
    CHECK_OK(ahoy_job_done(last));
    latch_wait(&jobs, 3);
    CHECK_OK(ahoy_job_done(last));
    CHECK_EQ(tries_most, 1);
    CHECK_OK(ahoy_server_stop(server, 0));
    CHECK_OK(ahoy_server_wait(server));
    CHECK_EQ(latch_count(&replies), calls);
    ahoy_server_free(server);
}

/* They are buried one after the other, not one inside of the other. */
static void many_die_at_once(void) {
    ahoy_work work;
    ahoy_server server = start(OPTIONS(.workers = 2));
    for (int i = 0; i < MANY; i++) CHECK_OK(ahoy_queue_push_wait(server, "many", &i, sizeof i, NULL));
    CHECK_OK(ahoy_queue_work(server, "many", WORK(.in_hand_max = MANY), keep_many, NULL, NULL, &work));
    latch_wait(&kept, MANY);
    CHECK_OK(ahoy_work_stop(work));
    for (int i = 0; i < MANY; i++) CHECK_OK(ahoy_job_retry(many[i], 0));
    CHECK_OK(ahoy_queue_work(server, "many", WORK(.in_hand_max = 1, .tries_max = 1), never, NULL, NULL, NULL));
    WAIT_UNTIL(are_dead(server, "many", MANY));
    ahoy_server_free(server);
}

/* A burial needs no room: otherwise nothing would ever leave. */
static void dead_in_a_full_store(void) {
    void *large = calloc(1, LARGE_BYTES);
    ahoy_status status;
    uint64_t pushed = 0;
    CHECK(large);
    ahoy_server server = start(OPTIONS(.workers = 2));
    while ((status = ahoy_queue_push_wait(server, "full", large, LARGE_BYTES, NULL)) == AHOY_OK) pushed++;
    CHECK_STATUS(status, AHOY_ERR_AGAIN);
    CHECK(pushed >= 2);
    CHECK_OK(ahoy_queue_work(server, "full", WORK(.ack_ms = 600000), drop_job, NULL, NULL, NULL));
    WAIT_UNTIL(are_dead(server, "full", pushed));
    ahoy_server_free(server);
    free(large);
}

int main(void) {
    holdings before = holdings_now();
    jobs_beside_calls();
    many_die_at_once();
    dead_in_a_full_store();
    CHECK_HOLDINGS(before);
    return 0;
}
