/**
 * The servers that a PostgreSQL URL names, one URL for each: `postgresql://user@one:5432,two:5432/shop` as libpq has it
 * (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-MULTIPLE-HOSTS). Most URLs name one.
 */
export function hostUrls(url: string): readonly string[] {
  const [, head = '', hosts = '', tail = ''] = /^([^:]*:\/\/(?:[^@/?#]*@)?)([^/?#]*)(.*)$/s.exec(url) ?? []
  return hosts.includes(',') ? hosts.split(',').map((host) => head + host + tail) : [url]
}
