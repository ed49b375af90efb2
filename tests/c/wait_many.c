/* Many threads may wait for one server: all return when it has stopped, whoever stops or frees it. */
#include "support.h"

#include <unistd.h>

enum { WAITERS = 8 };

static latch waiting, returned;
static tally seen;

static void *wait_for(void *arg) {
    ahoy_server server = *(ahoy_server *)arg;
    latch_add(&waiting, 1);
    ahoy_status status = ahoy_server_wait(server);
    /* Who comes after the free finds the handle stale. */
    CHECK(status == AHOY_OK || status == AHOY_ERR_STALE);
    if (status == AHOY_OK) CHECK_EQ(latch_count(&seen.freed), 1);
    latch_add(&returned, 1);
    return NULL;
}

static void ends(int32_t workers, bool by_free) {
    pthread_t threads[WAITERS];
    waiting = returned = (latch)LATCH_INIT;
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = workers, .user = &seen,
                                       .on_open = tally_open, .on_close = tally_close,
                                       .on_message = tally_message, .on_free = tally_free));
    for (int i = 0; i < WAITERS; i++) CHECK(!pthread_create(&threads[i], NULL, wait_for, &server));
    latch_wait(&waiting, WAITERS);
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    CHECK_EQ(latch_count(&returned), 0);

    if (by_free) ahoy_server_free(server);
    else CHECK_OK(ahoy_server_stop(server, AHOY_DRAIN_DEFAULT));
    for (int i = 0; i < WAITERS; i++) CHECK(!pthread_join(threads[i], NULL));
    CHECK_EQ(latch_count(&seen.closed), 1);
    CHECK_EQ(latch_count(&seen.freed), 1);
    ahoy_server_free(server);
    close(fd);
}

int main(void) {
    holdings before = holdings_now();
    for (long round = 0; round < rounds(20); round++) {
        ends(2, false), ends(2, true);
        ends(AHOY_WORKERS_NONE, false), ends(AHOY_WORKERS_NONE, true);
    }
    CHECK_HOLDINGS(before);
    return 0;
}
