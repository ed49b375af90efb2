/*
 * Many threads push, several workers take, and other threads end the jobs: each job is done exactly once, on no thread but
 * a worker's; calls are spread over the workers.
 */
#include "support.h"

enum { PUSHERS = 4, ENDERS = 2, RING = 1 << 12 };

static long each;
static latch pushed = LATCH_INIT, done = LATCH_INIT, freed = LATCH_INIT;
static _Atomic unsigned char *seen;
static ahoy_server server;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static ahoy_job ring[RING];
static size_t first, count;
static bool is_over;
static pthread_t callers[16];
static size_t caller_count;

static void take(ahoy_job job, const void *data, size_t len, uint32_t tries, void *user) {
    long number;
    (void)user;
    CHECK(len == sizeof number && tries == 1);
    memcpy(&number, data, len);
    CHECK_EQ(atomic_fetch_add(&seen[number], 1), 0);
    pthread_mutex_lock(&lock);
    size_t at = 0;
    while (at < caller_count && !pthread_equal(callers[at], pthread_self())) at++;
    if (at == caller_count) callers[caller_count++] = pthread_self();
    CHECK(count < RING && caller_count <= 3);
    ring[(first + count++) % RING] = job;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

static void *end(void *unused) {
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&lock);
        while (count == 0 && !is_over) pthread_cond_wait(&changed, &lock);
        if (count == 0) break;
        ahoy_job job = ring[first];
        first = (first + 1) % RING, count--;
        pthread_mutex_unlock(&lock);
        CHECK_OK(ahoy_job_done(job));
        CHECK_STATUS(ahoy_job_done(job), AHOY_ERR_STALE);
        latch_add(&done, 1);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void on_pushed(ahoy_server from, ahoy_status status, void *user) {
    (void)user;
    CHECK_EQ(from.id, server.id);
    CHECK_OK(status);
    latch_add(&pushed, 1);
}

static void *push(void *base) {
    for (long i = 0; i < each; i++) {
        long number = (long)(intptr_t)base * each + i;
        CHECK_OK(ahoy_queue_push(server, "many", &number, sizeof number, NULL, on_pushed, NULL));
    }
    return NULL;
}

int main(void) {
    holdings before = holdings_now();
    pthread_t pushers[PUSHERS], enders[ENDERS];
    each = rounds(5000);
    seen = calloc((size_t)each * PUSHERS, 1);
    server = start(OPTIONS(.workers = 3));
    ahoy_work_options options = { .size = sizeof options, .in_hand_max = 100 };
    CHECK_OK(ahoy_queue_work(server, "many", &options, take, &freed, count_free, NULL));
    for (long i = 0; i < ENDERS; i++) CHECK(!pthread_create(&enders[i], NULL, end, NULL));
    for (long i = 0; i < PUSHERS; i++) CHECK(!pthread_create(&pushers[i], NULL, push, (void *)i));
    for (int i = 0; i < PUSHERS; i++) CHECK(!pthread_join(pushers[i], NULL));
    latch_wait(&done, each * PUSHERS);
    latch_wait(&pushed, each * PUSHERS);
    CHECK_EQ(caller_count, 3);
    pthread_mutex_lock(&lock);
    is_over = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < ENDERS; i++) CHECK(!pthread_join(enders[i], NULL));
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&freed), 1);
    free((void *)seen);
    CHECK_HOLDINGS(before);
    return 0;
}
