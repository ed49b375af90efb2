/* Never more jobs in hand than asked for, bad input, NULLs and stale handles. */
#include "support.h"

#define WORK(...) (&(ahoy_work_options){ .size = sizeof(ahoy_work_options), __VA_ARGS__ })

static latch taken = LATCH_INIT, freed = LATCH_INIT;
static _Atomic long in_hand, in_hand_most;
static ahoy_job kept[64];

static void keep(ahoy_job job, const void *data, size_t len, uint32_t tries, void *user) {
    (void)data, (void)len, (void)tries, (void)user;
    long now = atomic_fetch_add(&in_hand, 1) + 1;
    for (long most = in_hand_most; now > most;)
        if (atomic_compare_exchange_weak(&in_hand_most, &most, now)) break;
    kept[now - 1] = job;
    latch_add(&taken, 1);
}

static void never(ahoy_job job, const void *data, size_t len, uint32_t tries, void *user) {
    (void)job, (void)data, (void)len, (void)tries, (void)user;
    CHECK(false);
}

static void never_free(void *user) { (void)user, CHECK(false); }

static void never_done(ahoy_server server, ahoy_status status, void *user) {
    (void)server, (void)status, (void)user;
    CHECK(false);
}

static void bounded(ahoy_server server, uint32_t in_hand_max, long expected) {
    ahoy_work work;
    uint64_t waiting, hand;
    in_hand = in_hand_most = 0;
    latch_add(&taken, -latch_count(&taken));
    for (int i = 0; i < 40; i++) CHECK_OK(ahoy_queue_push_wait(server, "bound", &i, sizeof i, NULL));
    CHECK_OK(ahoy_queue_work(server, "bound", WORK(.in_hand_max = in_hand_max), keep, &freed, count_free, &work));
    for (int round = 0; round < 40; round += (int)expected) {
        latch_wait(&taken, round + expected);
        CHECK_OK(ahoy_queue_counts_wait(server, "bound", &waiting, &hand, NULL));
        CHECK_EQ(hand, expected);
        CHECK_EQ(waiting, 40 - round - expected);
        long last = atomic_exchange(&in_hand, 0);
        CHECK_EQ(last, expected);
        ahoy_job jobs[64];
        memcpy(jobs, kept, sizeof jobs);
        for (long i = 0; i < last; i++) CHECK_OK(ahoy_job_done(jobs[i]));
    }
    CHECK_EQ(in_hand_most, expected);
    long before = latch_count(&freed);
    CHECK_OK(ahoy_work_stop(work));
    latch_wait(&freed, before + 1);
}

static void bad_input(ahoy_server server) {
    static const char *const names[] = { "", "a.b", "a b", "*", "a/b", "\xff",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" };
    char id[300] = "";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        CHECK_STATUS(ahoy_queue_push_wait(server, names[i], "x", 1, NULL), AHOY_ERR_INVALID);
        CHECK_STATUS(ahoy_queue_push(server, names[i], "x", 1, NULL, never_done, NULL), AHOY_ERR_INVALID);
        CHECK_STATUS(ahoy_queue_work(server, names[i], NULL, never, NULL, never_free, NULL), AHOY_ERR_INVALID);
        CHECK_STATUS(ahoy_queue_counts_wait(server, names[i], NULL, NULL, NULL), AHOY_ERR_INVALID);
    }
    CHECK_STATUS(ahoy_queue_push_wait(server, NULL, "x", 1, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_queue_push_wait(server, "q", NULL, 1, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_queue_push(server, NULL, "x", 1, NULL, never_done, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_queue_push(server, "q", NULL, 1, NULL, never_done, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_queue_work(server, NULL, NULL, never, NULL, never_free, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_queue_work(server, "q", NULL, NULL, NULL, never_free, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_queue_counts(server, "q", NULL, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_queue_counts_wait(server, NULL, NULL, NULL, NULL), AHOY_ERR_NULL);
    CHECK_OK(ahoy_queue_counts_wait(server, "q", NULL, NULL, NULL));
    CHECK_STATUS(ahoy_queue_push_wait(server, "q", "x", 1, ""), AHOY_ERR_INVALID);
    CHECK_STATUS(ahoy_queue_push_wait(server, "q", "x", 1, "a\r\nb"), AHOY_ERR_INVALID);
    memset(id, 'i', 256);
    CHECK_STATUS(ahoy_queue_push_wait(server, "q", "x", 1, id), AHOY_ERR_INVALID);
    id[255] = 0;
    CHECK_OK(ahoy_queue_push_wait(server, "q", "x", 1, id));
    char *large = calloc(1, (64 << 20) + 1);
    CHECK_STATUS(ahoy_queue_push_wait(server, "q", large, (64 << 20) + 1, NULL), AHOY_ERR_TOO_LONG);
    free(large);

    static const struct { ahoy_work_options options; ahoy_status status; } bad[] = {
        { { .size = 0 }, AHOY_ERR_SIZE },
        { { .size = sizeof(ahoy_work_options), .in_hand_max = 65537 }, AHOY_ERR_INVALID },
        { { .size = sizeof(ahoy_work_options), .replicas = 6 }, AHOY_ERR_INVALID },
        { { .size = sizeof(ahoy_work_options), .dead_queue = "a.b" }, AHOY_ERR_INVALID },
        { { .size = sizeof(ahoy_work_options), .dead_queue = "q" }, AHOY_ERR_INVALID },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_STATUS(ahoy_queue_work(server, "q", &bad[i].options, never, NULL, never_free, NULL), bad[i].status);
}

static void stale(ahoy_server server) {
    static const uint64_t ids[] = { 0, 1ull << 40, UINT64_MAX };
    for (int i = 0; i < 3; i++) {
        ahoy_job job = { ids[i] };
        CHECK_STATUS(ahoy_job_done(job), AHOY_ERR_STALE);
        CHECK_STATUS(ahoy_job_retry(job, 1), AHOY_ERR_STALE);
        CHECK_STATUS(ahoy_job_progress(job), AHOY_ERR_STALE);
        CHECK_STATUS(ahoy_job_drop(job, "no"), AHOY_ERR_STALE);
        CHECK_STATUS(ahoy_work_stop((ahoy_work){ ids[i] }), AHOY_ERR_STALE);
    }
    CHECK_STATUS(ahoy_queue_push_wait(server, "q", "x", 1, NULL), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_queue_push(server, "q", "x", 1, NULL, never_done, NULL), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_queue_work(server, "q", NULL, never, NULL, never_free, NULL), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_queue_counts_wait(server, "q", NULL, NULL, NULL), AHOY_ERR_STALE);
}

static void stopped(ahoy_server server) {
    ahoy_server_stop(server, 0);
    CHECK_OK(ahoy_server_wait(server));
    CHECK_STATUS(ahoy_queue_push_wait(server, "q", "x", 1, NULL), AHOY_ERR_STOPPED);
    CHECK_STATUS(ahoy_queue_push(server, "q", "x", 1, NULL, never_done, NULL), AHOY_ERR_STOPPED);
    CHECK_STATUS(ahoy_queue_work(server, "q", NULL, never, NULL, never_free, NULL), AHOY_ERR_STOPPED);
    CHECK_STATUS(ahoy_queue_counts_wait(server, "q", NULL, NULL, NULL), AHOY_ERR_STOPPED);
}

/* The jobs that wait in memory have a limit, and there is room again when they are done. */
static void memory(ahoy_server server) {
    size_t len = 8 << 20;
    char *data = calloc(1, len);
    int pushed = 0;
    ahoy_status status;
    while (!(status = ahoy_queue_push_wait(server, "large", data, len, NULL))) pushed++;
    CHECK_STATUS(status, AHOY_ERR_AGAIN);
    CHECK_EQ(pushed, 31);
    ahoy_work work;
    in_hand = 0;
    latch_add(&taken, -latch_count(&taken));
    CHECK_OK(ahoy_queue_work(server, "large", WORK(.in_hand_max = 1), keep, NULL, NULL, &work));
    latch_wait(&taken, 1);
    CHECK_OK(ahoy_work_stop(work));
    CHECK_STATUS(ahoy_queue_push_wait(server, "large", data, len, NULL), AHOY_ERR_AGAIN);
    CHECK_OK(ahoy_job_done(kept[0]));
    CHECK_OK(ahoy_queue_push_wait(server, "large", data, len, NULL));
    free(data);
}

int main(void) {
    holdings before = holdings_now();
    ahoy_server server = start(OPTIONS(.workers = 4));
    bounded(server, 1, 1);
    bounded(server, 0, 4);
    bounded(server, 8, 8);
    bad_input(server);
    if (!is_slow()) memory(server);
    stopped(server);
    ahoy_server_free(server);
    stale(server);
    CHECK_HOLDINGS(before);
    return 0;
}
