'use strict';
// Service calls with the official client, one after the other, as one measured process. The job is the first argument,
// in JSON: { work: create | bulk | list, count, connectionString, prefix }.

require('../../tests/official_clients/node/ports');

const { ProvisioningServiceClient } = require('azure-iot-provisioning-service');

const job = JSON.parse(process.argv[2]);
const client = ProvisioningServiceClient.fromConnectionString(job.connectionString);
const enrollment = (number) => ({
  registrationId: `${job.prefix}-${number}`,
  attestation: { type: 'symmetricKey', symmetricKey: {} },
});

const works = { create, bulk, list };
works[job.work](job.count, (done) => process.stdout.write(`${done}\n`, () => process.exit(0)));

function create(left, finish) {
  if (left === 0) return finish(job.count);
  client.createOrUpdateIndividualEnrollment(enrollment(left), check(() => create(left - 1, finish)));
}

// The service takes ten in one operation.
function bulk(left, finish) {
  if (left <= 0) return finish(job.count);
  const enrollments = [];
  for (let number = left; number > 0 && enrollments.length < 10; number -= 1) enrollments.push(enrollment(number));
  const operation = { mode: 'create', enrollments };
  client.runBulkEnrollmentOperation(operation, check(() => bulk(left - 10, finish)));
}

function list(_count, finish) {
  const query = client.createIndividualEnrollmentQuery({ query: '*' }, 100);
  let listed = 0;
  const take = (error, page) => {
    check(() => {
      listed += page.length;
      if (query.hasMoreResults) query.next(take);
      else finish(listed);
    })(error);
  };
  query.next(take);
}

function check(proceed) {
  return (error) => {
    if (error) {
      process.stderr.write(`${error.message}\n`);
      process.exit(1);
    }
    proceed();
  };
}
