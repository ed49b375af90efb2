/* ahoy_last_error is the thread's own: another thread's errors do not touch it, nor does success. */
#include "support.h"

enum { THREADS = 8 };

static pthread_barrier_t together;

static void *fail_differently(void *arg) {
    char url[64], kept[256];
    ahoy_server server;
    CHECK_TEXT(ahoy_last_error(), ""); /* a new thread has failed at nothing */
    snprintf(url, sizeof url, "tcp://127.0.0.1:%d", 70000 + (int)(intptr_t)arg);
    ahoy_server_options options = OPTIONS(.listen = url);
    for (int round = 0; round < 100; round++) {
        CHECK_STATUS(ahoy_server_start(&options, &server), AHOY_ERR_PORT);
        snprintf(kept, sizeof kept, "%s", ahoy_last_error());
        CHECK(strstr(kept, url + 16) != NULL);
        int wait = pthread_barrier_wait(&together); /* all have failed by now */
        CHECK(wait == 0 || wait == PTHREAD_BARRIER_SERIAL_THREAD);
        CHECK_TEXT(ahoy_last_error(), kept);
        CHECK_OK(ahoy_log_set(AHOY_LOG_OFF, NULL, NULL)); /* success leaves it as it is */
        CHECK_TEXT(ahoy_last_error(), kept);
    }
    /* The next failure takes its place; one without a detail of its own says its sentence. */
    CHECK_STATUS(ahoy_send((ahoy_conn){ 0 }, "x", 1), AHOY_ERR_STALE);
    CHECK(strcmp(ahoy_last_error(), kept) != 0);
    CHECK(strlen(ahoy_last_error()) > 0);
    return NULL;
}

int main(void) {
    pthread_t threads[THREADS];
    CHECK_TEXT(ahoy_last_error(), "");
    CHECK(!pthread_barrier_init(&together, NULL, THREADS));
    for (intptr_t i = 0; i < THREADS; i++) {
        CHECK(!pthread_create(&threads[i], NULL, fail_differently, (void *)i));
    }
    for (int i = 0; i < THREADS; i++) CHECK(!pthread_join(threads[i], NULL));
    CHECK_TEXT(ahoy_last_error(), "");
    pthread_barrier_destroy(&together);
    return 0;
}
