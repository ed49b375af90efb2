/*
 * Workers work at the same time: as many callbacks as there are workers can be inside at once, and one that
 * takes long keeps only its own worker's connections waiting.
 */
#include "support.h"

#include <unistd.h>

enum { WORKERS = 4 };

static pthread_barrier_t together;
static latch met = LATCH_INIT;

static void meet(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)conn, (void)data, (void)len, (void)user;
    /* Returns when all workers are here: if two of the connections had one worker, never. */
    int wait = pthread_barrier_wait(&together);
    CHECK(wait == 0 || wait == PTHREAD_BARRIER_SERIAL_THREAD);
    latch_add(&met, 1);
}

int main(void) {
    CHECK(!pthread_barrier_init(&together, NULL, WORKERS));
    for (long round = 1; round <= rounds(50); round++) {
        ahoy_server server = start(OPTIONS(.workers = WORKERS, .on_message = meet));
        int peers[WORKERS];
        for (int i = 0; i < WORKERS; i++) {
            int pair[2];
            stream_pair(pair);
            CHECK_OK(ahoy_server_adopt(server, pair[0], NULL)); /* spread evenly: one for each */
            peers[i] = pair[1];
        }
        CHECK_EQ(stats_of(server).connections_worker_max, 1);
        for (int i = 0; i < WORKERS; i++) send_all(peers[i], "x", 1);
        latch_wait(&met, round * WORKERS);
        ahoy_server_free(server);
        for (int i = 0; i < WORKERS; i++) close(peers[i]);
    }
    pthread_barrier_destroy(&together);
    return 0;
}
