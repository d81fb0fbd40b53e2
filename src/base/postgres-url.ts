/**
 * One URL for each host of a PostgreSQL URL such as `postgresql://user@one:5432,two:5432/shop`, as in libpq
 * (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-MULTIPLE-HOSTS). Most URLs have one host.
 */
export function hostUrls(url: string): readonly string[] {
  const [, head = '', hosts = '', tail = ''] = /^([^:]*:\/\/(?:[^@/?#]*@)?)([^/?#]*)(.*)$/s.exec(url) ?? []
  return hosts.includes(',') ? hosts.split(',').map((host) => head + host + tail) : [url]
}
