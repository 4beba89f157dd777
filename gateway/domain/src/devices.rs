//! A user's devices, at most ten, each with its queue.

use crate::{DEVICE_UNSEEN_MS_MAX, DeviceQueue, DomainLimits, Reject};
use tidegate_ids::{DeviceId, WallMs};

/// A device that was registered.
#[derive(Clone, Debug)]
pub struct Device {
    /// Which.
    pub id: DeviceId,
    /// When it registered.
    pub registered: WallMs,
    /// When it was last seen connecting or disconnecting.
    pub seen: WallMs,
    /// Its queue.
    pub queue: DeviceQueue,
}

/// What a connecting device means for the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Known, and its queue holds.
    Known,
    /// Known, but unseen so long that its queue was dropped: it synchronises from heads.
    Expired,
    /// New; if the user has as many as allowed, the one unseen longest goes.
    New {
        /// Who goes.
        evicted: Option<DeviceId>,
    },
}

/// The devices of one user, in the order of their registration.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    devices: Vec<Device>,
}

impl Devices {
    /// What becomes of a device that connects.
    ///
    /// # Errors
    /// [`Reject::Quota`] if all places are taken by connected devices.
    pub fn decide_register(
        &self,
        id: DeviceId,
        now: WallMs,
        limits: &DomainLimits,
    ) -> Result<Registration, Reject> {
        if let Some(device) = self.get(id) {
            let unseen_ms = now.0.saturating_sub(device.seen.0);
            let expired = unseen_ms > DEVICE_UNSEEN_MS_MAX && !device.queue.is_connected();
            return Ok(if expired { Registration::Expired } else { Registration::Known });
        }
        if self.devices.len() < limits.devices_max {
            return Ok(Registration::New { evicted: None });
        }
        let idle = self.devices.iter().filter(|device| !device.queue.is_connected());
        let oldest = idle.min_by_key(|device| (device.seen, device.id)).ok_or(Reject::Quota)?;
        Ok(Registration::New { evicted: Some(oldest.id) })
    }

    /// Folds a registration; registering again empties the queue.
    pub fn register(&mut self, id: DeviceId, time: WallMs) {
        self.remove(id);
        self.devices.push(Device { id, registered: time, seen: time, queue: DeviceQueue::default() });
    }

    /// Folds a removal.
    pub fn remove(&mut self, id: DeviceId) {
        self.devices.retain(|device| device.id != id);
    }

    /// Notes that a device was seen.
    pub fn saw(&mut self, id: DeviceId, time: WallMs) {
        if let Some(device) = self.get_mut(id) {
            device.seen = device.seen.max(time);
        }
    }

    /// One device.
    #[must_use]
    pub fn get(&self, id: DeviceId) -> Option<&Device> {
        self.devices.iter().find(|device| device.id == id)
    }

    /// One device, to change.
    pub fn get_mut(&mut self, id: DeviceId) -> Option<&mut Device> {
        self.devices.iter_mut().find(|device| device.id == id)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter()
    }

    /// All of them, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Device> {
        self.devices.iter_mut()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.devices.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eleventh_device_evicts_the_one_unseen_longest() {
        let limits = DomainLimits::default();
        let mut devices = Devices::default();
        for id in 1..=10 {
            devices.register(DeviceId(id), WallMs(1000 - id));
        }
        let decide = |devices: &Devices| devices.decide_register(DeviceId(11), WallMs(2000), &limits);
        assert_eq!(decide(&devices), Ok(Registration::New { evicted: Some(DeviceId(10)) }));
        devices.iter_mut().for_each(|device| device.queue.connect(1));
        assert_eq!(decide(&devices), Err(Reject::Quota));
        assert_eq!(devices.decide_register(DeviceId(3), WallMs(2000), &limits), Ok(Registration::Known));
    }

    #[test]
    fn a_device_unseen_for_thirty_days_has_lost_its_queue() {
        let limits = DomainLimits::default();
        let mut devices = Devices::default();
        devices.register(DeviceId(1), WallMs(5));
        let at = |ms| devices.decide_register(DeviceId(1), WallMs(ms), &limits);
        assert_eq!(at(DEVICE_UNSEEN_MS_MAX + 5), Ok(Registration::Known));
        assert_eq!(at(DEVICE_UNSEEN_MS_MAX + 6), Ok(Registration::Expired));
    }
}
