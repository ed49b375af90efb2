/*
 * Services with the program's own loop: a wait for the answer of its own service runs the turns; no thread is
 * started.
 */
#include "support.h"

#include <pthread.h>

static pthread_t loop_thread;
static latch freed = LATCH_INIT, told = LATCH_INIT;

static void echo(ahoy_incoming call, const void *data, size_t len, void *user) {
    (void)user;
    CHECK(pthread_equal(pthread_self(), loop_thread));
    CHECK_OK(ahoy_reply(call, data, len));
}

static void on_reply(ahoy_server from, ahoy_status status, const void *data, size_t len, void *user) {
    (void)from, (void)data, (void)user;
    CHECK(pthread_equal(pthread_self(), loop_thread));
    CHECK_OK(status);
    CHECK_EQ(len, 5);
    latch_add(&told, 1);
}

int main(void) {
    holdings before = holdings_now();
    loop_thread = pthread_self();
    ahoy_server server = start(OPTIONS(.workers = AHOY_WORKERS_NONE));
    ahoy_offer offer;
    char answer[8];
    size_t len;
    CHECK_OK(ahoy_service(server, "echo", NULL, echo, &freed, count_free, &offer));
    for (int i = 0; i < 100; i++) {
        CHECK_OK(ahoy_call_wait(server, "echo", "hello", 5, NULL, answer, sizeof answer, &len));
        CHECK(len == 5 && memcmp(answer, "hello", 5) == 0);
    }
    CHECK_STATUS(ahoy_call_wait(server, "nobody", "hello", 5, NULL, answer, sizeof answer, &len), AHOY_ERR_NO_SERVICE);
    CHECK_OK(ahoy_call(server, "echo", "hello", 5, NULL, on_reply, NULL));
    CHECK_EQ(latch_count(&told), 0);
    while (latch_count(&told) < 1) CHECK_OK(ahoy_server_turn(server, 1000));
    CHECK_OK(ahoy_offer_end(offer));
    while (latch_count(&freed) < 1) CHECK_OK(ahoy_server_turn(server, 1000));
    ahoy_server_free(server);
    CHECK_HOLDINGS(before);
    return 0;
}
