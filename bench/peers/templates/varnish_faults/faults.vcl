# Varnish: malloc storage, stock logic, the same short timeouts towards the origin as the others.
vcl 4.1;
backend origin {
    .host = "@{origin_address}";
    .port = "@{origin_port}";
    .connect_timeout = 1s;
    .first_byte_timeout = 1s;
    .between_bytes_timeout = 1s;
}
