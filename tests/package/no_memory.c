/*
 * Starts a server while the n-th call of malloc from there on gets no memory.
 * usage: no_memory N        0: it was started, or answered that there is no memory; or the N calls were not reached
 */
#include <ahoy.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

/* Counts down to the call that fails; 0: none does. */
static _Thread_local int left;

void *malloc(size_t size) {
    static void *(*real)(size_t);
    if (!real) {
        void *found = dlsym(RTLD_NEXT, "malloc");
        memcpy(&real, &found, sizeof real);
    }
    return left > 0 && --left == 0 ? NULL : real(size);
}

int main(int argc, char **argv) {
    int until_failure = argc > 1 ? atoi(argv[1]) : 0;
    ahoy_server_options options = {
        .size = sizeof options, .listen = "tcp://127.0.0.1:0", .workers = AHOY_WORKERS_NONE };
    ahoy_server server;
    left = until_failure;
    ahoy_status status = ahoy_server_start(&options, &server);
    left = 0;
    if (status == AHOY_OK) ahoy_server_free(server);
    return status == AHOY_OK || status == AHOY_ERR_MEMORY ? 0 : 1;
}
