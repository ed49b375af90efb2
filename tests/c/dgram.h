/* Datagram sockets on the other side, without the library. */
#ifndef TEST_DGRAM_H
#define TEST_DGRAM_H

#include "support.h"

/* A datagram is at most so long over IPv4. */
enum { UDP_BYTES_MAX = 65507 };

/*
 * A socket that is bound to `own` ("udp://127.0.0.1:0", "unixgram:/path", "unixgram:@name"; NULL: to nothing, as
 * the system does it) and connected to a listener of the server, or to a URL.
 */
int dgram_dial(ahoy_server server, size_t index, const char *own);
int dgram_dial_url(const char *url, const char *own);

/* A socket that is bound, and where it is. */
int dgram_bind(const char *own, char *url, size_t capacity);

/* An abstract name that no other process has: "unixgram:@…". The buffer of each `number` below 8 is static. */
const char *dgram_name(unsigned number);

/* One datagram. Both wait, for room and for a datagram. */
void dgram_send(int fd, const void *data, size_t len);
void dgram_send_url(int fd, const char *url, const void *data, size_t len);
size_t dgram_recv(int fd, void *buffer, size_t capacity);

/* Waits for one datagram and checks that it is this. */
void dgram_expect(int fd, const void *data, size_t len);

/*
 * A socket that is many peers of a server: `host` is below 65,536 and stands for 127.1.0.0 and what follows. The last
 * waits for a datagram of `len` bytes, and tells the host that it came to.
 */
int dgram_hosts(void);
void dgram_send_as(uint32_t host, int fd, const char *url, const void *data, size_t len);
uint32_t dgram_recv_as(int fd, void *data, size_t len);

#endif
