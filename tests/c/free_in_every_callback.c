/*
 * A server may be freed inside every callback: the handle is stale at once, the call does not wait, and
 * all that was promised still happens exactly once.
 */
#include "stage.h"

static void free_it(stage *stage) {
    ahoy_server_free(stage->server);
    CHECK_STATUS(ahoy_server_stop(stage->server, 0), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_server_wait(stage->server), AHOY_ERR_STALE);
    ahoy_server_free(stage->server);
    if (stage->at != ON_FREE_SERVER) CHECK_EQ(latch_count(&stage->seen.freed), 0);
}

int main(void) {
    static const int32_t workers[] = { 1, 2, AHOY_WORKERS_NONE };
    for (int at = 0; at < PLACES; at++) {
        for (size_t i = 0; i < sizeof workers / sizeof workers[0]; i++) {
            stage stage;
            printf("free in %s, %d workers\n", place_names[at], workers[i]);
            stage_play(&stage, at, workers[i], free_it);
        }
    }
    return 0;
}
