/*
 * A service that is ended by another thread as soon as its handle is there, while ahoy_service has not returned yet: it is
 * over, nobody offers it any more, and what the program lent is freed once.
 */
#include "support.h"

#include <pthread.h>

static _Atomic bool is_over;
static ahoy_offer offer;
static latch freed, ended;

static void answer(ahoy_incoming call, const void *data, size_t len, void *user) {
    (void)user;
    CHECK_OK(ahoy_reply(call, data, len));
}

static void count(void *user) { latch_add(user, 1); }

static void *end_early(void *unused) {
    (void)unused;
    while (!is_over) {
        ahoy_offer seen = { __atomic_exchange_n(&offer.id, 0, __ATOMIC_ACQ_REL) };
        if (!seen.id) continue;
        CHECK_OK(ahoy_offer_end(seen));
        latch_add(&ended, 1);
    }
    return NULL;
}

int main(void) {
    long count_all = rounds(3000);
    pthread_t thread;
    ahoy_server server = start(OPTIONS(.workers = 1));
    freed = ended = (latch)LATCH_INIT;
    CHECK(!pthread_create(&thread, NULL, end_early, NULL));
    for (long i = 1; i <= count_all; i++) {
        CHECK_OK(ahoy_service(server, "brief", NULL, answer, &freed, count, &offer));
        latch_wait(&ended, (int)i);
        latch_wait(&freed, (int)i);
        CHECK_STATUS(ahoy_call_wait(server, "brief", "", 0, NULL, NULL, 0, NULL), AHOY_ERR_NO_SERVICE);
    }
    is_over = true;
    pthread_join(thread, NULL);
    ahoy_server_stop(server, 1000);
    CHECK_OK(ahoy_server_wait(server));
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&freed), count_all);
    return 0;
}
