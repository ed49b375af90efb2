/*
 * A service that is ended by another thread as soon as its handle is there, while ahoy_service has not returned yet: it is
 * over, nobody offers it any more, and what the program lent is freed once.
 */
#include "support.h"

#include <pthread.h>
#include <sched.h>

static atomic_bool is_over;
static bool one_at_a_time;
static ahoy_offer offer;
static latch freed = LATCH_INIT, ended = LATCH_INIT;

static void answer(ahoy_incoming call, const void *data, size_t len, void *user) {
    (void)user;
    CHECK_OK(ahoy_reply(call, data, len));
}

static void count(void *user) { latch_add(user, 1); }

/* What the library is writing: to look at it is the race that is wanted here, and a whole number is there or it is not. */
#if defined(__clang__)
__attribute__((no_sanitize("thread")))
#endif
static uint64_t peep(void) { return *(volatile uint64_t *)&offer.id; }

static void *end_early(void *unused) {
    (void)unused;
    uint64_t last = 0;
    while (!is_over) {
        ahoy_offer seen = { peep() };
        if (seen.id == last) {
            if (one_at_a_time) sched_yield();
            continue;
        }
        last = seen.id;
        CHECK_OK(ahoy_offer_end(seen));
        latch_add(&ended, 1);
    }
    return NULL;
}

int main(void) {
    long early = 0, all = 0, wanted = rounds(300);
    pthread_t thread;
    cpu_set_t cpus;
    deadline_seconds(120);
    CHECK(!sched_getaffinity(0, sizeof cpus, &cpus));
    one_at_a_time = getenv("TEST_VALGRIND") || CPU_COUNT(&cpus) == 1;
    ahoy_server server = start(OPTIONS(.workers = 1));
    CHECK(!pthread_create(&thread, NULL, end_early, NULL));
    /* Until it has been early often enough to show something. On one CPU, and under Valgrind, one thread runs at a time and
     * nobody is early: what is shown there is that nothing is left or used too late. */
    while ((one_at_a_time ? all : early) < wanted) {
        CHECK_OK(ahoy_service(server, "brief", NULL, answer, &freed, count, &offer));
        early += latch_count(&ended) > all++;
        latch_wait(&ended, all);
        latch_wait(&freed, all);
        CHECK_STATUS(ahoy_call_wait(server, "brief", "", 0, NULL, NULL, 0, NULL), AHOY_ERR_NO_SERVICE);
    }
    is_over = true;
    pthread_join(thread, NULL);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&freed), all);
    printf("note: %ld of %ld ended before ahoy_service returned\n", early, all);
    return 0;
}
