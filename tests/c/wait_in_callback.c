/* A call that would have to wait answers AHOY_ERR_DEADLOCK inside every callback, instead of hanging. */
#include "stage.h"

#include <unistd.h>

static ahoy_server other, other_loop;

static void wait_there(stage *stage) {
    int pair[2];
    size_t received = 77;
    stream_pair(pair);

    /* The stage frees its server before the last on_free: then the handle is stale first. */
    ahoy_status status = ahoy_server_wait(stage->server);
    if (stage->at < ON_FREE_SEND) CHECK_STATUS(status, AHOY_ERR_DEADLOCK);
    CHECK(status == AHOY_ERR_DEADLOCK || status == AHOY_ERR_STALE);

    CHECK_STATUS(ahoy_server_wait(other), AHOY_ERR_DEADLOCK);
    CHECK_STATUS(ahoy_server_wait(other_loop), AHOY_ERR_DEADLOCK);
    CHECK_STATUS(ahoy_server_turn(other_loop, 0), AHOY_ERR_DEADLOCK);
    CHECK_STATUS(ahoy_serve(LOOPBACK, NULL), AHOY_ERR_DEADLOCK);
    CHECK_STATUS(ahoy_greet_once(LOOPBACK, NULL, NULL, 0, &received), AHOY_ERR_DEADLOCK);
    CHECK_STATUS(ahoy_greet_fd(pair[0], NULL, NULL, 0, &received), AHOY_ERR_DEADLOCK);
    CHECK_EQ(received, 77);
    close(pair[0]), close(pair[1]);
}

/* The turn inside a turn of the same loop. */
static void turn_there(stage *stage) {
    ahoy_status status = ahoy_server_turn(stage->server, 0);
    if (stage->at < ON_FREE_SEND) CHECK_STATUS(status, AHOY_ERR_DEADLOCK);
    CHECK(status == AHOY_ERR_DEADLOCK || status == AHOY_ERR_STALE);
}

int main(void) {
    static const int32_t workers[] = { 1, 2, AHOY_WORKERS_NONE };
    stage stage;
    other = start(OPTIONS(.listen = LOOPBACK, .workers = 1));
    other_loop = start(OPTIONS(.listen = LOOPBACK, .workers = AHOY_WORKERS_NONE));

    for (int at = 0; at < PLACES; at++) {
        for (size_t i = 0; i < sizeof workers / sizeof workers[0]; i++) {
            printf("wait in %s, %d workers\n", place_names[at], workers[i]);
            stage_play(&stage, at, workers[i], wait_there);
        }
        printf("turn in %s\n", place_names[at]);
        stage_play(&stage, at, AHOY_WORKERS_NONE, turn_there);
    }

    /* Outside of callbacks the same calls are good. */
    CHECK_OK(ahoy_server_turn(other_loop, 0));
    CHECK_OK(ahoy_server_stop(other, 0));
    CHECK_OK(ahoy_server_wait(other));
    ahoy_server_free(other);
    ahoy_server_free(other_loop);
    return 0;
}
