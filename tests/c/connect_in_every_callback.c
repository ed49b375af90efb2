/*
 * ahoy_connect is legal inside every callback, for another server as well. What was begun there is closed exactly once,
 * on a worker of that server.
 */
#include "remote.h"
#include "stage.h"

static remote far;
static tally begun;
static ahoy_server other;

static void connect_there(stage *stage) {
    (void)stage;
    ahoy_conn conn = outgoing(other, far.url, CONNECT_OPTIONS(.user = &begun, .on_free = tally_free));
    CHECK_OK(ahoy_send(conn, "echo", 4));
}

static void close_when_echoed(ahoy_conn conn, const void *data, size_t len, void *user) {
    tally_message(conn, data, len, user);
    if (latch_count(&begun.bytes) == 4) CHECK_OK(ahoy_conn_close(conn));
}

int main(void) {
    far = remote_process(true);
    other = start(OPTIONS(.workers = 1, .on_open = tally_open, .on_message = close_when_echoed,
                          .on_close = tally_close));
    for (int32_t workers = AHOY_WORKERS_NONE; workers <= 2; workers += 3) {
        for (place place = 0; place < PLACES; place++) {
            stage stage;
            begun = (tally)TALLY_INIT;
            stage_play(&stage, place, workers, connect_there);
            latch_wait(&begun.freed, 1);
            CHECK_EQ(latch_count(&begun.opened), 1);
            CHECK_EQ(latch_count(&begun.closed), 1);
            CHECK_STATUS(begun.reason, AHOY_OK);
        }
    }
    ahoy_server_free(other);
    remote_end(&far);
    return 0;
}
