'use strict';
// The official device client. The outcome of a request to `provision` is that of one registration.

const drive = require('./driver');
const register = require('./provision');

drive('azure-iot-provisioning-device', register);
