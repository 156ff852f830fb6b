'use strict';
// The official service client of a hub, for its REST API. A request is { do, ... }. The first one is
// `connect`, with { connectionString }.

const drive = require('./driver');
const { Client, Registry } = require('azure-iothub');

let client, registry;

const handlers = {
  connect({ connectionString }, callback) {
    registry = Registry.fromConnectionString(connectionString);
    client = Client.fromConnectionString(connectionString);
    callback();
  },

  create: ({ id, key }, callback) => {
    const symmetricKey = { primaryKey: key, secondaryKey: key };
    const authentication = { type: 'sas', symmetricKey };
    registry.create({ deviceId: id, status: 'enabled', authentication }, callback);
  },
  disable: ({ id }, callback) => registry.get(id, (error, device) => {
    if (error) return callback(error);
    return registry.update({ ...device, status: 'disabled' }, callback);
  }),
  get: ({ id }, callback) => registry.get(id, callback),
  list: (_, callback) => registry.list(callback),
  delete: ({ id }, callback) => registry.delete(id, (error) => callback(error)),
  modules: ({ id }, callback) => registry.getModulesOnDevice(id, callback),
  twin: ({ id }, callback) => registry.getTwin(id, callback),
  // Without a version, the client takes none but `*`.
  update_twin: ({ id, patch, etag }, callback) => registry.updateTwin(id, patch, etag ?? '*', callback),
  method: ({ id, name, payload }, callback) => {
    const call = { methodName: name, payload, connectTimeoutInSeconds: 20, responseTimeoutInSeconds: 20 };
    client.invokeDeviceMethod(id, call, callback);
  },

  // Reads page after page.
  query({ size }, callback) {
    const query = registry.createQuery('SELECT * FROM devices', size);
    const pages = [];
    const take = (error, page) => {
      if (error) return callback(error);
      pages.push(page);
      return query.hasMoreResults ? query.next(take) : callback(null, pages);
    };
    query.next(take);
  },
};

drive('azure-iothub', (request, callback) => handlers[request.do](request, callback));
