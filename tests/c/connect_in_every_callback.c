/*
 * ahoy_connect is legal inside every callback; where the server stops already it says so. What was begun there is
 * closed exactly once.
 */
#include "remote.h"
#include "stage.h"

#include <unistd.h>

static remote far;
static tally begun;
static ahoy_status status;

static void connect_there(stage *stage) {
    ahoy_connect_options options = CONNECT_OPTIONS(.user = &begun, .on_free = tally_free);
    ahoy_conn conn = { 77 };
    status = ahoy_connect(stage->server, far.url, &options, &conn);
    CHECK_EQ(conn.id != 77, status == AHOY_OK);
    if (status) return;
    CHECK_OK(ahoy_send(conn, "x", 1));
    CHECK_OK(ahoy_conn_abort(conn));
}

int main(void) {
    for (place place = 0; place < PLACES; place++) {
        stage stage;
        begun = (tally)TALLY_INIT, status = AHOY_OK;
        far = remote_process(true);
        stage_play(&stage, place, 2, connect_there);
        if (status && place != ON_FREE_SERVER) fprintf(stderr, "%s\n", place_names[place]);
        if (place == ON_FREE_SERVER) CHECK(status == AHOY_ERR_STOPPED || status == AHOY_ERR_STALE);
        else CHECK_OK(status);
        CHECK_EQ(latch_count(&begun.freed), status ? 0 : 1);
        remote_end(&far);
    }
    return 0;
}
