/*
 * A server may be freed twice, from many threads at once, and after another server took its place:
 * only the first free does something.
 */
#include "support.h"

#include <unistd.h>

enum { THREADS = 8 };

static ahoy_server shared;
static pthread_barrier_t together;

static void *free_shared(void *unused) {
    (void)unused;
    pthread_barrier_wait(&together);
    ahoy_server_free(shared);
    return NULL;
}

static void freed_by_many_threads_at_once(void) {
    for (long round = 0; round < rounds(50); round++) {
        tally seen = TALLY_INIT;
        pthread_t threads[THREADS];
        shared = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .on_free = tally_free, .user = &seen));
        CHECK(pthread_barrier_init(&together, NULL, THREADS) == 0);
        for (int i = 0; i < THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, free_shared, NULL));
        for (int i = 0; i < THREADS; i++) CHECK(!pthread_join(threads[i], NULL));
        pthread_barrier_destroy(&together);
        /* Each free of a stale handle may return at once; the first one waited. */
        CHECK_EQ(latch_count(&seen.freed), 1);
    }
}

int main(void) {
    holdings before = holdings_now();
    tally first = TALLY_INIT, second = TALLY_INIT;

    ahoy_server server = start(OPTIONS(.on_free = tally_free, .user = &first));
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&first.freed), 1);
    ahoy_server_free(server);

    ahoy_server next = start(OPTIONS(.on_free = tally_free, .user = &second));
    ahoy_server_free(server);
    ahoy_server_free((ahoy_server){ 0 });
    CHECK_EQ(latch_count(&second.freed), 0);
    CHECK_EQ(stats_of(next).closed, 0);
    ahoy_server_free(next);
    CHECK_EQ(latch_count(&first.freed), 1);
    CHECK_EQ(latch_count(&second.freed), 1);

    freed_by_many_threads_at_once();
    CHECK_HOLDINGS(before);
    return 0;
}
