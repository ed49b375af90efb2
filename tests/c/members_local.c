/* A server without a cluster has one member: itself. */
#include "support.h"

static latch told = LATCH_INIT;
static ahoy_server server;

static void on_member(ahoy_server from, const ahoy_member *member, void *user) {
    char address[128];
    CHECK_EQ(from.id, server.id);
    CHECK(user == &told);
    CHECK_EQ(member->size, sizeof *member);
    CHECK_TEXT(member->node, "local");
    CHECK_TEXT(member->meta, "");
    CHECK_OK(ahoy_server_address(server, 0, address, sizeof address));
    CHECK_TEXT(member->addresses, address);
    CHECK(member->since_ms > 1700000000000 && member->load <= 1000 && member->incarnation != 0);
    CHECK(member->is_self && member->state == AHOY_MEMBER_JOINED);
    latch_add(&told, 1);
    /* Nothing is locked: it may ask again, and stop and free the server. */
    if (latch_count(&told) == 1) {
        CHECK_OK(ahoy_members(server, on_member, user, NULL));
        CHECK_OK(ahoy_server_stop(server, 0));
    }
}

static void never(ahoy_server from, const ahoy_member *member, void *user) {
    (void)from, (void)member, (void)user;
    CHECK(!"there is nobody else");
}

int main(void) {
    holdings before = holdings_now();
    size_t count = 0;
    server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .on_member = never));
    CHECK_OK(ahoy_members(server, NULL, NULL, &count));
    CHECK_EQ(count, 1);
    CHECK_OK(ahoy_members(server, NULL, NULL, NULL));
    CHECK_OK(ahoy_members(server, on_member, &told, &count));
    CHECK_EQ(latch_count(&told), 2);
    CHECK_OK(ahoy_server_wait(server));
    CHECK_OK(ahoy_members(server, on_member, &told, &count)); /* as it was */
    ahoy_server_free(server);
    CHECK_STATUS(ahoy_members(server, never, NULL, &count), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_members((ahoy_server){ 0 }, never, NULL, &count), AHOY_ERR_STALE);
    CHECK_HOLDINGS(before);
    return 0;
}
